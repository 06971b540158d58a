//! A real S3 server (s3s-fs: it checks signatures, dates and checksums) inside the test; it can go away and come back with its objects.

use std::{
    fs,
    path::{Path, PathBuf},
};

use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use s3s::{auth::SimpleAuth, service::S3ServiceBuilder};
use tokio::{net::TcpListener, runtime::Runtime};

use super::{broker::free_port, folder::Folder};

const ACCESS_KEY: &str = "AKIDIRISTEST";
const SECRET_KEY: &str = "a-secret-of-the-tests-only-0123456789abc";
const BUCKET: &str = "eyes";

pub struct Bucket {
    dir: Folder,
    pub port: u16,
    server: Option<Runtime>,
}

impl Bucket {
    #[track_caller]
    pub fn start() -> Self {
        Self::start_in(Folder::passing("irisd-s3-"))
    }

    /// With the objects that lie in this folder already.
    #[track_caller]
    pub fn start_in(dir: Folder) -> Self {
        let mut bucket = Self::away_in(dir);
        bucket.restart();
        bucket
    }

    /// Nobody listens there yet.
    pub fn away() -> Self {
        Self::away_in(Folder::passing("irisd-s3-"))
    }

    fn away_in(dir: Folder) -> Self {
        fs::create_dir_all(dir.path().join("root").join(BUCKET)).unwrap();
        fs::write(dir.path().join("access"), ACCESS_KEY).unwrap();
        fs::write(dir.path().join("secret"), format!("{SECRET_KEY}\n")).unwrap();
        Self { dir, port: free_port(), server: None }
    }

    /// The `[s3]` section that leads here.
    pub fn config(&self) -> String {
        let at = |name: &str| self.dir.path().join(name).display().to_string();
        format!(
            "[s3]\nendpoint = \"http://127.0.0.1:{}\"\nbucket = \"{BUCKET}\"\naccess_key_file = \"{}\"\nsecret_key_file = \"{}\"\n",
            self.port,
            at("access"),
            at("secret")
        )
    }

    #[track_caller]
    pub fn restart(&mut self) {
        assert!(self.server.is_none());
        let mut builder = S3ServiceBuilder::new(s3s_fs::FileSystem::new(self.dir.path().join("root")).expect("the bucket's folder"));
        builder.set_auth(SimpleAuth::from_single(ACCESS_KEY, SECRET_KEY));
        let service = builder.build();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = runtime.block_on(TcpListener::bind(("127.0.0.1", self.port))).expect("the bucket's port is still ours");
        runtime.spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let service = service.clone();
                tokio::spawn(async move {
                    // A client that goes away in the middle is its own affair.
                    let _ = http1::Builder::new().timer(TokioTimer::new()).serve_connection(TokioIo::new(socket), service).await;
                });
            }
        });
        self.server = Some(runtime);
    }

    pub fn is_running(&self) -> bool {
        self.server.is_some()
    }

    /// The server goes away, open connections with it; what it holds stays.
    pub fn stop(&mut self) {
        if let Some(runtime) = self.server.take() {
            runtime.shutdown_timeout(std::time::Duration::from_secs(5));
        }
    }

    /// Where the objects lie, by their keys.
    pub fn root(&self) -> PathBuf {
        self.dir.path().join("root").join(BUCKET)
    }

    /// The bytes of an object.
    pub fn object(&self, key: &str) -> Option<Vec<u8>> {
        fs::read(self.root().join(key)).ok()
    }

    /// All keys, sorted.
    pub fn keys(&self) -> Vec<String> {
        super::files::listing(&self.root()).into_keys().collect()
    }

    pub fn keys_below(&self, prefix: &str) -> Vec<String> {
        self.keys().into_iter().filter(|k| k.starts_with(prefix)).collect()
    }

    pub fn folder(&self) -> &Path {
        self.dir.path()
    }
}

impl Drop for Bucket {
    fn drop(&mut self) {
        if let Some(runtime) = self.server.take() {
            runtime.shutdown_background();
        }
    }
}

//! s3s-fs with signatures checked: objects lie as files under `root/<bucket>/<key>`.

use std::{net::Ipv4Addr, path::PathBuf, sync::Arc};

use hyper_util::rt::TokioIo;
use s3s::{auth::SimpleAuth, service::S3ServiceBuilder};
use tempfile::TempDir;
use tokio::{io::AsyncRead, io::AsyncWrite, net::TcpListener, task::JoinHandle};
use tokio_rustls::{TlsAcceptor, rustls};

use super::{ca::TestCa, free_port};

pub const ACCESS: &str = "test-access";
pub const SECRET: &str = "test-secret";
pub const BUCKET: &str = "iris";

pub struct S3Server {
    pub root: TempDir,
    pub port: u16,
    tls: Option<TlsAcceptor>,
    task: Option<JoinHandle<()>>,
}

impl S3Server {
    /// With one bucket, [`BUCKET`].
    pub async fn start() -> Self {
        Self::with_tls(None).await
    }

    pub async fn with_tls(ca: Option<&TestCa>) -> Self {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join(BUCKET)).unwrap();
        let mut server = Self { root, port: free_port(), tls: ca.map(acceptor), task: None };
        server.up().await;
        server
    }

    pub fn endpoint(&self) -> String {
        format!("{}://127.0.0.1:{}", if self.tls.is_some() { "https" } else { "http" }, self.port)
    }

    pub fn file(&self, key: &str) -> PathBuf {
        self.root.path().join(BUCKET).join(key)
    }

    /// Starts on the same port, over the same files.
    pub async fn up(&mut self) {
        let mut service = S3ServiceBuilder::new(s3s_fs::FileSystem::new(self.root.path()).unwrap());
        service.set_auth(SimpleAuth::from_single(ACCESS, SECRET));
        let service = service.build();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, self.port)).await.unwrap();
        let tls = self.tls.clone();
        self.task = Some(tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((socket, _)) = listener.accept().await {
                let (service, tls) = (service.clone(), tls.clone());
                connections.spawn(async move {
                    match tls {
                        None => serve(socket, service).await,
                        Some(tls) => {
                            if let Ok(socket) = tls.accept(socket).await {
                                serve(socket, service).await;
                            }
                        }
                    }
                });
            }
        }));
    }

    /// Hangs up on everybody and stops listening.
    pub async fn down(&mut self) {
        if let Some(task) = self.task.take() {
            task.abort();
            let _ = task.await;
        }
    }
}

async fn serve(socket: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, service: s3s::service::S3Service) {
    let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(socket), service).await;
}

fn acceptor(ca: &TestCa) -> TlsAcceptor {
    use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
    let config = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![CertificateDer::from_pem_slice(ca.cert.as_bytes()).unwrap()],
            PrivateKeyDer::from_pem_slice(ca.key.as_bytes()).unwrap(),
        )
        .unwrap();
    TlsAcceptor::from(Arc::new(config))
}

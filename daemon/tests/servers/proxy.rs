//! A TCP proxy that spoils bytes on their way, in either direction: replacements of equal length, so that HTTP's lengths stay right.

use std::{net::Ipv4Addr, sync::Arc};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

/// What is replaced by what.
pub type Swaps = Vec<(&'static [u8], &'static [u8])>;

pub struct Spoiler {
    pub port: u16,
    task: JoinHandle<()>,
}

impl Spoiler {
    /// `up`: in requests; `down`: in answers.
    pub async fn before(port: u16, up: Swaps, down: Swaps) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let own = listener.local_addr().unwrap().port();
        let (up, down) = (Arc::new(up), Arc::new(down));
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (up, down) = (up.clone(), down.clone());
                tokio::spawn(async move {
                    let Ok(server) = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await else { return };
                    let (client_in, client_out) = client.into_split();
                    let (server_in, server_out) = server.into_split();
                    tokio::join!(pump(client_in, server_out, &up), pump(server_in, client_out, &down));
                });
            }
        });
        Self { port: own, task }
    }
}

impl Drop for Spoiler {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn pump(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin, swaps: &Swaps) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(n @ 1..) = from.read(&mut buffer).await {
        let bytes = &mut buffer[..n];
        for (find, put) in swaps {
            assert_eq!(find.len(), put.len());
            while let Some(at) = bytes.windows(find.len()).position(|w| w == *find) {
                bytes[at..at + put.len()].copy_from_slice(put);
            }
        }
        if to.write_all(bytes).await.is_err() {
            break;
        }
    }
    let _ = to.shutdown().await;
}

//! What stands before a function URL on AWS: the end of TLS. Here it hands the bytes on to the embedded AWS.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use rcgen::CertifiedKey;
use slipway_local::REGION;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;

/// It ends when it is dropped.
pub(super) struct Front {
    port: u16,
    server: JoinHandle<()>,
}

impl Front {
    /// Takes connections on a free port of 127.0.0.1, for what listens on the port `behind`.
    pub(super) async fn start(behind: u16) -> Self {
        let CertifiedKey { cert, signing_key } =
            rcgen::generate_simple_self_signed([format!("*.lambda-url.{REGION}.on.aws")]).unwrap();
        let key = PrivateKeyDer::Pkcs8(signing_key.serialize_der().into());
        let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()));
        let config = config.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
        let config = config.with_single_cert(vec![cert.der().clone()], key).unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = tokio::spawn(async move {
            loop {
                let (connection, _) = listener.accept().await.unwrap();
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    // Either side may end it whenever it likes.
                    let Ok(mut person) = acceptor.accept(connection).await else { return };
                    let Ok(mut function) = TcpStream::connect((Ipv4Addr::LOCALHOST, behind)).await else { return };
                    let _ = tokio::io::copy_bidirectional(&mut person, &mut function).await;
                });
            }
        });
        Self { port, server }
    }

    pub(super) fn port(&self) -> u16 {
        self.port
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        self.server.abort();
    }
}

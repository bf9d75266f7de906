//! A server in this process.

use std::error::Error;
use std::sync::mpsc;

use hyper::body::{Body, Incoming};
use hyper::server::conn::http1;
use hyper::service::Service;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;

/// Serves as long as the process lives, and returns the address.
pub(crate) fn listen<S, B>(service: S) -> String
where
    S: Service<Request<Incoming>, Response = Response<B>> + Clone + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Into<Box<dyn Error + Send + Sync>>,
    B: Body<Error: Into<Box<dyn Error + Send + Sync>>, Data: Send> + Send + 'static,
{
    let (started, address) = mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            started.send(listener.local_addr().unwrap()).unwrap();
            loop {
                let (socket, _) = listener.accept().await.unwrap();
                socket.set_nodelay(true).unwrap();
                let line = http1::Builder::new().serve_connection(TokioIo::new(socket), service.clone());
                tokio::spawn(async {
                    // A client that disconnects is no failure of the server.
                    let _ = line.await;
                });
            }
        });
    });
    format!("http://{}", address.recv().unwrap())
}

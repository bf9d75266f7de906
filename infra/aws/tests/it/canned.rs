//! A server that answers as a case tells it to, in this process, and what it was asked.

use std::convert::Infallible;
use std::sync::{Arc, mpsc};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Collected, Full};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;

pub(crate) type Answer = Response<Full<Bytes>>;

/// An answer of a status, headers and a body.
pub(crate) fn answer(status: u16, headers: &[(&str, &str)], body: &str) -> Answer {
    let mut answer = Response::builder().status(status);
    for (name, value) in headers {
        answer = answer.header(*name, *value);
    }
    answer.body(Full::new(Bytes::copy_from_slice(body.as_bytes()))).unwrap()
}

/// Serves for as long as the process lives; where `answers` gives none, none ever comes. Gives the address.
pub(crate) fn serve<A>(answers: impl Fn(&Request<Bytes>) -> A + Send + Sync + 'static) -> String
where
    A: Into<Option<Answer>> + 'static,
{
    let answers = Arc::new(answers);
    let (started, address) = mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            started.send(listener.local_addr().unwrap()).unwrap();
            loop {
                let (socket, _) = listener.accept().await.unwrap();
                let answers = answers.clone();
                let service = service_fn(move |request: Request<hyper::body::Incoming>| {
                    let answers = answers.clone();
                    async move {
                        let (parts, body) = request.into_parts();
                        let body = body.collect().await.map(Collected::to_bytes).unwrap_or_default();
                        let Some(answer) = answers(&Request::from_parts(parts, body)).into() else {
                            return std::future::pending().await;
                        };
                        Ok::<_, Infallible>(answer)
                    }
                });
                tokio::spawn(async move {
                    // A client that goes away is no trouble of the server's.
                    let _ = http1::Builder::new().serve_connection(TokioIo::new(socket), service).await;
                });
            }
        });
    });
    format!("http://{}", address.recv().unwrap())
}

//! Failures to connect that no waiting mends: a host name that does not exist, a certificate that is not trusted, another
//! protocol than the one spoken.

use std::error::Error;
use std::io;

use rustls::{AlertDescription, InvalidMessage};

use crate::many_headers;

/// Of what does not answer to plain HTTP.
pub(crate) const SPEAKS_TLS: &str = "no plain HTTP is spoken there, as an address that begins with `http:` asks for";

/// Of a host that the resolver says there is none of.
pub(crate) const NO_SUCH_HOST: &str = "no host has this name";

/// What is wrong with the address, so that a person must act; `None` where it may pass by itself.
pub(crate) fn wrong_address(error: &(dyn Error + 'static)) -> Option<&'static str> {
    if find::<rustls::Error>(error).is_some_and(not_trusted) {
        return Some("its certificate is not trusted, or no TLS can be agreed on");
    }
    if find::<rustls::Error>(error).is_some_and(not_tls) {
        return Some("no TLS is spoken there, as an address that begins with `https:` asks for");
    }
    if many_headers::is_unreadable_response(error) && find::<hyper::Error>(error).is_some_and(not_http) {
        return Some(SPEAKS_TLS);
    }
    let unknown = |error: &io::Error| no_such_host(&error.to_string());
    find::<io::Error>(error).is_some_and(unknown).then_some(NO_SUCH_HOST)
}

/// Whether a page says that TLS is spoken here, as servers answer to plain HTTP.
pub(crate) fn wants_tls(page: &[u8]) -> bool {
    const PAGES: [&str; 3] = [
        "plain HTTP request was sent to HTTPS port",
        "Client sent an HTTP request to an HTTPS server",
        "speaking plain HTTP to an SSL-enabled server port",
    ];
    let page = String::from_utf8_lossy(page);
    PAGES.iter().any(|words| page.contains(words))
}

/// Whether what came is a page for people. No service of this sort answers with one.
pub(crate) fn is_page(body: &[u8]) -> bool {
    const BEGINNINGS: [&str; 2] = ["<!doctype html", "<html"];
    let body = body.trim_ascii_start();
    let begins = |with: &str| body.get(..with.len()).is_some_and(|it| it.eq_ignore_ascii_case(with.as_bytes()));
    BEGINNINGS.iter().any(|with| begins(with))
}

/// The first error of a type in a chain. What an IO error was made from is not among its sources.
pub(crate) fn find<'e, E: Error + 'static>(error: &'e (dyn Error + 'static)) -> Option<&'e E> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        let within = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        next = within.map(|within| within as &(dyn Error + 'static)).or_else(|| error.source());
    }
    None
}

fn not_trusted(error: &rustls::Error) -> bool {
    use AlertDescription::{
        BadCertificate, CertificateRequired, HandshakeFailure, ProtocolVersion, UnknownCA, UnrecognisedName,
    };
    let told = [BadCertificate, CertificateRequired, HandshakeFailure, ProtocolVersion, UnknownCA, UnrecognisedName];
    match error {
        rustls::Error::InvalidCertificate(_)
        | rustls::Error::NoCertificatesPresented
        | rustls::Error::PeerIncompatible(_) => true,
        rustls::Error::AlertReceived(alert) => told.contains(alert),
        _ => false,
    }
}

fn not_tls(error: &rustls::Error) -> bool {
    matches!(error, rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType))
}

/// The library tells in words alone that an answer does not begin as one of HTTP does.
fn not_http(error: &hyper::Error) -> bool {
    error.to_string().contains("invalid HTTP version")
}

/// The standard library tells in words alone what the system's resolver said. One that gave no answer says so otherwise.
fn no_such_host(words: &str) -> bool {
    const UNKNOWN: [&str; 5] = [
        "Name or service not known",
        "No address associated with hostname",
        "Name does not resolve",
        "nodename nor servname provided, or not known",
        "No such host is known",
    ];
    UNKNOWN.iter().any(|unknown| words.contains(unknown))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn within(error: impl Error + Send + Sync + 'static) -> io::Error {
        io::Error::other(io::Error::new(io::ErrorKind::InvalidData, error))
    }

    #[test]
    fn a_host_without_a_name_is_told_from_a_resolver_that_gave_no_answer() {
        for (words, expected) in [
            ("failed to lookup address information: Name or service not known", true),
            ("failed to lookup address information: nodename nor servname provided, or not known", true),
            ("failed to lookup address information: Temporary failure in name resolution", false),
            ("failed to lookup address information: Try again", false),
            ("Connection refused (os error 111)", false),
        ] {
            assert_eq!(wrong_address(&io::Error::other(words)).is_some(), expected, "{words}");
        }
    }

    #[test]
    fn tls_that_no_waiting_mends_is_told_from_a_line_that_broke() {
        use rustls::{CertificateError, Error};
        for (error, expected) in [
            (Error::InvalidCertificate(CertificateError::UnknownIssuer), true),
            (Error::InvalidCertificate(CertificateError::Expired), true),
            (Error::InvalidMessage(InvalidMessage::InvalidContentType), true),
            (Error::AlertReceived(AlertDescription::HandshakeFailure), true),
            (Error::AlertReceived(AlertDescription::InternalError), false),
            (Error::DecryptError, false),
            (Error::HandshakeNotComplete, false),
        ] {
            assert_eq!(wrong_address(&within(error.clone())).is_some(), expected, "{error}");
        }
        assert!(wrong_address(&io::Error::from(io::ErrorKind::ConnectionReset)).is_none());
    }
}

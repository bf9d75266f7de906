//! Failures to connect that waiting does not fix: an unknown host name, an untrusted certificate, a server that speaks
//! another protocol.

use std::error::Error;
use std::io;

use rustls::{AlertDescription, InvalidMessage};

use crate::many_headers;

/// The reason for a server that does not speak plain HTTP.
pub(crate) const TLS_EXPECTED: &str = "no plain HTTP is spoken there, as an address that begins with `http:` asks for";

/// The reason for a certificate of an authority that is not trusted.
pub(crate) const UNTRUSTED: &str = "its certificate is not trusted, or no TLS can be agreed on";

/// The reason for a host name that the resolver does not know.
pub(crate) const NO_SUCH_HOST: &str = "no host has this name";

/// What is wrong with the address, so that a person must act; `None` if the failure may pass by itself.
pub(crate) fn wrong_address_reason(error: &(dyn Error + 'static)) -> Option<&'static str> {
    if find_source::<rustls::Error>(error).is_some_and(is_untrusted) {
        return Some(UNTRUSTED);
    }
    if find_source::<rustls::Error>(error).is_some_and(is_not_tls) {
        return Some("no TLS is spoken there, as an address that begins with `https:` asks for");
    }
    if many_headers::is_unreadable_response(error) && find_source::<hyper::Error>(error).is_some_and(is_not_http) {
        return Some(TLS_EXPECTED);
    }
    let unknown = |error: &io::Error| is_unknown_host(&error.to_string());
    find_source::<io::Error>(error).is_some_and(unknown).then_some(NO_SUCH_HOST)
}

/// Whether a page says that the server expects TLS, as servers answer to plain HTTP.
pub(crate) fn asks_for_tls(page: &[u8]) -> bool {
    const PAGES: [&str; 3] = [
        "plain HTTP request was sent to HTTPS port",
        "Client sent an HTTP request to an HTTPS server",
        "speaking plain HTTP to an SSL-enabled server port",
    ];
    let page = String::from_utf8_lossy(page);
    PAGES.iter().any(|words| page.contains(words))
}

/// Whether a body is an HTML page. No AWS-compatible service sends one.
pub(crate) fn is_html_page(body: &[u8]) -> bool {
    const BEGINNINGS: [&str; 2] = ["<!doctype html", "<html"];
    let body = body.trim_ascii_start();
    let begins = |with: &str| body.get(..with.len()).is_some_and(|it| it.eq_ignore_ascii_case(with.as_bytes()));
    BEGINNINGS.iter().any(|with| begins(with))
}

/// The first error of a type in an error chain. Looks inside IO errors too, whose inner error is not among their sources.
pub(crate) fn find_source<'e, E: Error + 'static>(error: &'e (dyn Error + 'static)) -> Option<&'e E> {
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

fn is_untrusted(error: &rustls::Error) -> bool {
    use AlertDescription::{
        BadCertificate, CertificateRequired, HandshakeFailure, ProtocolVersion, UnknownCA, UnrecognisedName,
    };
    let lasting = [BadCertificate, CertificateRequired, HandshakeFailure, ProtocolVersion, UnknownCA, UnrecognisedName];
    match error {
        rustls::Error::InvalidCertificate(_)
        | rustls::Error::NoCertificatesPresented
        | rustls::Error::PeerIncompatible(_) => true,
        rustls::Error::AlertReceived(alert) => lasting.contains(alert),
        _ => false,
    }
}

fn is_not_tls(error: &rustls::Error) -> bool {
    matches!(error, rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType))
}

/// The HTTP client reports only in its message that a response does not begin as HTTP does.
fn is_not_http(error: &hyper::Error) -> bool {
    error.to_string().contains("invalid HTTP version")
}

/// The standard library reports only in its message what the resolver said. A resolver that gave no answer has other
/// messages.
fn is_unknown_host(words: &str) -> bool {
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
    fn an_unknown_host_name_differs_from_a_resolver_without_an_answer() {
        for (words, expected) in [
            ("failed to lookup address information: Name or service not known", true),
            ("failed to lookup address information: nodename nor servname provided, or not known", true),
            ("failed to lookup address information: Temporary failure in name resolution", false),
            ("failed to lookup address information: Try again", false),
            ("Connection refused (os error 111)", false),
        ] {
            assert_eq!(wrong_address_reason(&io::Error::other(words)).is_some(), expected, "{words}");
        }
    }

    #[test]
    fn lasting_tls_failures_differ_from_broken_connections() {
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
            assert_eq!(wrong_address_reason(&within(error.clone())).is_some(), expected, "{error}");
        }
        assert!(wrong_address_reason(&io::Error::from(io::ErrorKind::ConnectionReset)).is_none());
    }
}

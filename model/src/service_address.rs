//! The address of a service, normalised: addresses of the same service are equal.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The address of a service: host, port and path, normalised.
///
/// `http://NAS:80/`, `https://nas` and `http://nas.` are one address, and so are all names of this host for itself. Two
/// names of one server, or a proxy in front of it, still make two addresses.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceAddress {
    host: String,
    /// `None` for the usual ports of HTTP, with or without TLS.
    port: Option<u16>,
    /// Empty, or begins with a slash and does not end in one.
    path: String,
}

/// Why a text is not the address of a service. The message does not repeat the text, which may hold a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AddressError {
    /// It does not begin with `http://` or `https://`, or names no host.
    Form,
    /// It has a user name, a password, or a query, which may hold one.
    Credentials,
}

impl fmt::Display for AddressError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Form => "it is no address that begins with http:// or https://",
            Self::Credentials => {
                "it bears credentials or a query; an address is written to files and logs, so they may not stand in it"
            }
        })
    }
}

impl std::error::Error for AddressError {}

impl ServiceAddress {
    /// Parses an address.
    ///
    /// # Errors
    /// [`AddressError`]. The text is not repeated in it.
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        let scheme = |name: &str| text.get(..name.len()).filter(|given| given.eq_ignore_ascii_case(name));
        let begin = scheme("https://").or(scheme("http://")).ok_or(AddressError::Form)?;
        let rest = &text[begin.len()..];
        if rest.contains(['@', '?', '#']) {
            return Err(AddressError::Credentials);
        }
        let (authority, path) = rest.find(['/', '\\']).map_or((rest, ""), |at| rest.split_at(at));
        let (host, port) = match authority.rfind(':') {
            Some(at) if !authority[at..].contains(']') => (&authority[..at], &authority[at + 1..]),
            _ => (authority, ""),
        };
        let port = if port.is_empty() { None } else { Some(port.parse().map_err(|_| AddressError::Form)?) };
        let host = host_in_one_spelling(host).ok_or(AddressError::Form)?;
        let segments = path.split(['/', '\\']).filter(|segment| !segment.is_empty());
        let path = segments.fold(String::new(), |path, segment| path + "/" + segment);
        Ok(Self { host, port: port.filter(|port| ![80, 443].contains(port)), path })
    }

    /// The host, in lower case.
    pub fn host(&self) -> &str {
        &self.host
    }
}

impl fmt::Display for ServiceAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.host)?;
        if let Some(port) = self.port {
            write!(f, ":{port}")?;
        }
        f.write_str(&self.path)
    }
}

/// `None` if the text names no host.
fn host_in_one_spelling(host: &str) -> Option<String> {
    const THIS_HOST: &str = "localhost";
    let host = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let address: Option<IpAddr> = match bare {
        Some(bare) => Some(bare.parse::<Ipv6Addr>().ok()?.to_canonical()),
        None => host.parse::<Ipv4Addr>().ok().map(IpAddr::V4),
    };
    if let Some(address) = address {
        let this_host = address.is_loopback() || address.is_unspecified();
        return Some(match address {
            _ if this_host => THIS_HOST.to_owned(),
            IpAddr::V6(address) => format!("[{address}]"),
            IpAddr::V4(address) => address.to_string(),
        });
    }
    if host.is_empty() || host.contains(['[', ']', ':']) || host.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return None;
    }
    let this_host = host == THIS_HOST || host.ends_with(".localhost") || host.starts_with("localhost.");
    Some(if this_host { THIS_HOST.to_owned() } else { host })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spelled(text: &str) -> String {
        ServiceAddress::parse(text).unwrap().to_string()
    }

    #[test]
    fn spellings_of_one_address_are_one() {
        for (one, others) in [
            (
                "nas",
                &["http://nas", "http://nas/", "https://NAS", "HTTP://nas:80", "https://nas:443//", "http://nas."][..],
            ),
            ("nas:9000", &["http://nas:9000", "https://Nas:9000/"]),
            ("nas/s3", &["http://nas/s3", "https://nas//s3/", "http://nas\\s3"]),
            (
                "localhost:9000",
                &[
                    "http://localhost:9000",
                    "http://127.0.0.1:9000",
                    "http://127.8.8.8:9000",
                    "http://[::1]:9000",
                    "http://[::ffff:127.0.0.1]:9000",
                    "http://0.0.0.0:9000",
                    "http://s3.localhost:9000",
                    "http://localhost.localdomain:9000",
                ],
            ),
            ("[2001:db8::1]", &["http://[2001:DB8:0:0::1]:80/", "https://[2001:db8::1]"]),
            ("192.168.0.7", &["http://192.168.0.7", "http://[::ffff:192.168.0.7]:80"]),
        ] {
            for other in others {
                assert_eq!(spelled(other), one, "{other}");
            }
        }
        assert_ne!(spelled("http://nas"), spelled("http://nas:9000"));
        assert_ne!(spelled("http://nas/a"), spelled("http://nas/b"));
        assert_ne!(spelled("http://nas"), spelled("http://nas.example"));
    }

    #[test]
    fn what_bears_credentials_is_no_address_and_is_not_repeated() {
        for text in [
            "http://user:word@h",
            "https://user@h/",
            "http://h/?token=word",
            "http://h#word",
            "http://h/a@b",
            "http://:word@",
        ] {
            let refused = ServiceAddress::parse(text).unwrap_err();
            assert_eq!(refused, AddressError::Credentials, "{text}");
            assert!(!refused.to_string().contains("word"));
        }
        for text in
            ["", "nas", "ftp://nas", "http://", "http:///x", "http://:80", "http://nas:x", "http://[::1", "http://a b"]
        {
            assert_eq!(ServiceAddress::parse(text), Err(AddressError::Form), "{text}");
        }
    }
}

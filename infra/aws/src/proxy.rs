//! The proxy through which Mill reaches a service, found as the SDK finds it: in the environment.

use hyper::Uri;
use hyper_util::client::proxy::matcher::Matcher;

/// The variables that name a proxy for `https:` and for `http:` addresses. The first one that is set counts.
const FOR_HTTPS: [&str; 4] = ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"];
const FOR_HTTP: [&str; 4] = ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"];

/// Describes the proxy for `address`, if any: its address and the variable that names it, never its user and password.
pub(crate) fn proxy_to(address: &str) -> Option<String> {
    let address: Uri = address.parse().ok()?;
    let found = Matcher::from_env().intercept(&address)?;
    let variables = if address.scheme_str() == Some("https") { FOR_HTTPS } else { FOR_HTTP };
    let variable = variables.iter().find(|name| std::env::var_os(name).is_some_and(|value| !value.is_empty()));
    Some(describe(found.uri(), variable.copied().unwrap_or("the environment")))
}

fn describe(proxy: &Uri, variable: &str) -> String {
    let port = proxy.port_u16().map_or_else(String::new, |port| format!(":{port}"));
    let (scheme, host) = (proxy.scheme_str().unwrap_or("http"), proxy.host().unwrap_or_default());
    format!("the proxy `{scheme}://{host}{port}` of {variable}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proxy_is_described_without_its_user_and_password() {
        for (proxy, expected) in [
            ("http://anna:secret@proxy.test:3128/", "the proxy `http://proxy.test:3128` of HTTPS_PROXY"),
            ("http://[::1]:3128", "the proxy `http://[::1]:3128` of HTTPS_PROXY"),
            ("https://proxy.test", "the proxy `https://proxy.test` of HTTPS_PROXY"),
        ] {
            assert_eq!(describe(&proxy.parse().unwrap(), "HTTPS_PROXY"), expected);
        }
    }
}

//! Secrets are left out of messages and files.

/// Removes the user name and password from an address, for messages and files.
pub(crate) fn without_password(address: &str) -> String {
    let Some((scheme, rest)) = address.split_once("://") else { return address.to_owned() };
    let host_ends = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    match rest[..host_ends].rfind('@') {
        Some(at) => format!("{scheme}://…{}", &rest[at..]),
        None => address.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_told_without_its_password() {
        for (address, told) in [
            ("http://me:se@cret@host:9000/x@y", "http://…@host:9000/x@y"),
            ("https://key@host", "https://…@host"),
            ("http://host:9000/a@b", "http://host:9000/a@b"),
            ("host:9000", "host:9000"),
        ] {
            assert_eq!(without_password(address), told);
        }
    }
}

//! How one list of cases becomes one named test for each case and back end.
//!
//! `queue_suite!`, `table_suite!`, `store_suite!`, `engine_suite!` and `server_side_copy_suite!` list their cases once.
//! Each takes the name of the module to make, and the path of an `async fn` without arguments that opens a fresh
//! subject.

/// Makes a test of each case.
#[doc(hidden)]
#[macro_export]
macro_rules! cases {
    ($open:path, $room:ident::$part:ident; $($case:ident)*) => {
        $(
            #[test]
            fn $case() {
                $crate::subject::run(async { $crate::$room::$part::$case($open().await).await });
            }
        )*
    };
}

/// Makes a test of each case, ignored with the reason where the back end declares that it does not apply.
#[doc(hidden)]
#[macro_export]
macro_rules! cases_if {
    (yes, $reason:literal, $($rest:tt)*) => { $crate::cases! { $($rest)* } };
    (no, $reason:literal, $open:path, $room:ident::$part:ident; $($case:ident)*) => {
        $(
            #[test]
            #[ignore = $reason]
            fn $case() {
                $crate::subject::run(async { $crate::$room::$part::$case($open().await).await });
            }
        )*
    };
}

/// Whether a capability was declared.
#[doc(hidden)]
#[macro_export]
macro_rules! declared {
    (yes) => {
        true
    };
    (no) => {
        false
    };
}

#[cfg(test)]
mod tests {
    /// The cases written in a file, and those that its suite's list names.
    fn unlisted(list: &str, files: &[&str]) -> Vec<String> {
        let named: Vec<&str> = list.lines().map(str::trim).collect();
        let written = files.iter().flat_map(|file| file.lines()).filter_map(|line| {
            let name = line.strip_prefix("pub async fn ")?;
            Some(name[..name.find('(')?].to_owned())
        });
        written.filter(|name| !named.contains(&name.as_str())).collect()
    }

    #[test]
    fn every_case_that_is_written_is_listed() {
        let queue = [
            include_str!("queue/delivery.rs"),
            include_str!("queue/visibility.rs"),
            include_str!("queue/batches.rs"),
            include_str!("queue/accounts.rs"),
        ];
        let table = [include_str!("table/rows.rs"), include_str!("table/ranges.rs")];
        let engine = [include_str!("engine/parts.rs")];
        let store = [
            include_str!("store/spaces.rs"),
            include_str!("store/writes.rs"),
            include_str!("store/conditions.rs"),
            include_str!("store/reads.rs"),
            include_str!("store/listings.rs"),
            include_str!("store/names.rs"),
        ];
        assert_eq!(unlisted(include_str!("queue.rs"), &queue), Vec::<String>::new());
        assert_eq!(unlisted(include_str!("table.rs"), &table), Vec::<String>::new());
        assert_eq!(unlisted(include_str!("engine.rs"), &engine), Vec::<String>::new());
        assert_eq!(unlisted(include_str!("store.rs"), &store), Vec::<String>::new());
    }

    #[test]
    fn a_case_left_out_would_be_noticed() {
        assert_eq!(unlisted("a\n", &["pub async fn a(x: u8) {}\npub async fn b() {}"]), ["b"]);
    }
}

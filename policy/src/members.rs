//! The one table of all members of policy files. The readers refuse a member that it lacks, and `docs/policy-files.md` is
//! generated from it.

use std::fmt::Write as _;

use crate::stores::{CREDENTIALS, STORE_TYPES};

/// One member of an object in a policy file.
#[derive(Debug)]
pub struct PolicyMember {
    /// Its name.
    pub name: &'static str,
    /// What leaving it out means.
    pub default: &'static str,
    /// What it means.
    pub about: &'static str,
    /// A value, as it is written.
    pub example: &'static str,
    /// What another value costs.
    pub cost: &'static str,
}

/// The names of these members, in their order.
pub(crate) fn names(lists: &[&'static [PolicyMember]]) -> Vec<&'static str> {
    lists.iter().flat_map(|list| list.iter().map(|member| member.name)).collect()
}

/// Of each store.
pub const STORE: &[PolicyMember] = &[
    PolicyMember {
        name: "id",
        default: "must be given",
        about: "what policies call the store",
        example: "\"1\"",
        cost: "another id is another store: what is known of its copies is compared anew",
    },
    PolicyMember {
        name: "type",
        default: "must be given",
        about: "`\"folder\"` or `\"s3\"`",
        example: "\"folder\"",
        cost: "-",
    },
    PolicyMember {
        name: "primary",
        default: "`false`; an only store is it",
        about: "whether it is the account's primary store: exactly one is",
        example: "true",
        cost: "-",
    },
    PolicyMember {
        name: "transfersMax",
        default: "no limit of its own",
        about: "transfers at once, over all workmen: 1 to 1024",
        example: "8",
        cost: "fewer: copies take longer, and the store has more left for others",
    },
];

/// At the top of a policy file.
pub const POLICY_FILE: &[PolicyMember] = &[
    PolicyMember {
        name: "spaceDuplicationStorePolicies",
        default: "no list: `defaultPolicies` apply to every space",
        about: "a list of store policies for each space that has its own",
        example: "{ \"photos\": [{ \"srcStoreId\": \"1\", \"destStoreId\": \"2\" }] }",
        cost: "-",
    },
    PolicyMember {
        name: "defaultPolicies",
        default: "none",
        about: "the store policies of every space without a list of its own",
        example: "[{ \"srcStoreId\": \"1\", \"destStoreId\": \"2\" }]",
        cost: "every space of the source is copied, also one that is made later",
    },
    PolicyMember {
        name: "spacesToIgnore",
        default: "none",
        about: "spaces that are left alone; so are those whose ids begin with `x-`",
        example: "[\"scratch\"]",
        cost: "what was copied of them before stays at the destination",
    },
    PolicyMember {
        name: "removeVanished",
        default: "`true`",
        about: "whether what is surely gone from the source goes from the destination",
        example: "false",
        cost: "`false`: the destination keeps all that ever was at the source",
    },
    PolicyMember {
        name: "compare",
        default: "`\"everything\"`",
        about: "what is queued of a space: `\"everything\"`, or the `\"differences\"` that listings and sync proofs leave open",
        example: "\"differences\"",
        cost: "`\"everything\"`: a task for every item in each loop; `\"differences\"`: listings are believed",
    },
    PolicyMember {
        name: "workers",
        default: "no limit; `0` says the same",
        about: "tasks of this account at once, at each of its stores: up to 1024",
        example: "16",
        cost: "fewer: the account's copies take longer, and leave more to others",
    },
];

/// Of one store policy.
pub const STORE_POLICY: &[PolicyMember] = &[
    PolicyMember {
        name: "srcStoreId",
        default: "must be given",
        about: "the store that is copied; it is never written",
        example: "\"1\"",
        cost: "-",
    },
    PolicyMember {
        name: "destStoreId",
        default: "must be given",
        about: "the store that is brought in sync",
        example: "\"2\"",
        cost: "-",
    },
    PolicyMember {
        name: "removeVanished",
        default: "that of the file",
        about: "the same for this policy alone",
        example: "false",
        cost: "as for the file",
    },
    PolicyMember {
        name: "compare",
        default: "that of the file",
        about: "the same for this policy alone",
        example: "\"differences\"",
        cost: "as for the file",
    },
];

/// The page `docs/policy-files.md`.
pub fn policy_files_page() -> String {
    let mut out = String::from(
        "# Policy files\n\n\
         Generated from the members' own table (`policy/src/members.rs`), by which the readers refuse what they do not know; a \
         test compares the two.\n\n\
         Each account has its name in `duplication-accounts.json`, and two files beside it. `mill policy check` names every \
         fault with its line; `mill policy explain ACCOUNT SPACE` says what a space's policies come to.\n",
    );
    let mut sections = vec![("`<account>-stores.json`: `stores` is a list of these".to_owned(), STORE)];
    sections.extend(STORE_TYPES.iter().map(|of| (format!("More of a store of type `{}`", of.name), of.members)));
    sections.extend([
        ("`credentials` of a store of type `s3`".to_owned(), CREDENTIALS),
        ("`<account>-duplication-policy.json`".to_owned(), POLICY_FILE),
        ("One store policy".to_owned(), STORE_POLICY),
    ]);
    for (head, members) in sections {
        let _ = write!(
            out,
            "\n## {head}\n\n| member | left out | what it is | for example | what it costs |\n|---|---|---|---|---|\n"
        );
        for PolicyMember { name, default, about, example, cost } in members {
            let _ = writeln!(out, "| `{name}` | {default} | {about} | `{example}` | {cost} |");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::diagnostic::Diagnostic;
    use crate::{policy_file, stores_file};

    fn object(members: &[(&str, &str)]) -> String {
        let members: Vec<String> = members.iter().map(|(name, value)| format!("\"{name}\": {value}")).collect();
        format!("{{ {} }}", members.join(", "))
    }

    /// What the reader says of one store with this member, and others that it may not be without.
    fn read_store(of_type: &str, member: &PolicyMember) -> Vec<Diagnostic> {
        let of_type = format!("\"{of_type}\"");
        let needed = [("id", "\"1\""), ("type", &*of_type), ("root", "\"/a\""), ("bucket", "\"b\"")];
        let unneeded = if of_type == "\"s3\"" { "root" } else { "bucket" };
        let (arn, name) = ("\"arn:aws:iam::1:role/a\"", member.name);
        let mut members: Vec<(&str, &str)> = needed.into_iter().filter(|(needed, _)| *needed != unneeded).collect();
        members.retain(|(needed, _)| *needed != name && !(*needed == "bucket" && name == "bucketPrefix"));
        members.extend((name == "externalId").then_some(("roleArn", arn)));
        members.push((name, member.example));
        stores_file::read("stores", object(&[("stores", &format!("[{}]", object(&members)))]).as_bytes()).1
    }

    #[test]
    fn each_member_with_its_example_is_read_without_a_word() {
        for of in STORE_TYPES {
            for member in STORE.iter().filter(|member| member.name != "type").chain(of.members) {
                assert_eq!(read_store(of.name, member), [], "{} {}", of.name, member.name);
            }
        }
        for PolicyMember { name, example, .. } in POLICY_FILE {
            let read = policy_file::read("policy", object(&[(name, example)]).as_bytes(), None).1;
            assert_eq!(read, [], "{name}");
        }
        for PolicyMember { name, example, .. } in STORE_POLICY {
            let mut members = vec![("srcStoreId", "\"1\""), ("destStoreId", "\"2\"")];
            members.retain(|(needed, _)| needed != name);
            members.push((name, example));
            let file = object(&[("defaultPolicies", &format!("[{}]", object(&members)))]);
            assert_eq!(policy_file::read("policy", file.as_bytes(), None).1, [], "{name}");
        }
        for pair in CREDENTIALS.chunks(2) {
            for PolicyMember { name, example, .. } in pair {
                let mut members = vec![("accessKeyIdEnv", "\"A\""), ("secretAccessKeyEnv", "\"B\"")];
                members.retain(|(needed, _)| !pair.iter().any(|member| member.name == *needed));
                members.push((name, example));
                let credentials = object(&members);
                let store =
                    object(&[("id", "\"1\""), ("type", "\"s3\""), ("bucket", "\"b\""), ("credentials", &credentials)]);
                let read = stores_file::read("stores", object(&[("stores", &format!("[{store}]"))]).as_bytes()).1;
                assert_eq!(read, [], "{name}");
            }
        }
    }

    /// With `MILL_WRITE_DOCS=1` it writes the page instead.
    #[test]
    fn the_page_of_policy_files_is_what_their_table_generates() {
        let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/policy-files.md");
        if std::env::var_os("MILL_WRITE_DOCS").is_some() {
            std::fs::write(&page, policy_files_page()).unwrap();
        }
        let written = std::fs::read_to_string(&page).unwrap_or_default();
        assert!(written == policy_files_page(), "docs/policy-files.md differs: run this test with MILL_WRITE_DOCS=1");
    }
}

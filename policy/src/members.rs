//! The table of all members of policy files. Each type of store has its own part in its file ([`crate::store_types`]).
//! The readers reject a member that is not in the table, and `docs/policy-files.md` is generated from it.

use std::fmt::Write as _;

use crate::store_types::{STORE_TYPES, StoreType, names_of_types};

/// One member of an object in a policy file.
#[derive(Debug)]
pub struct PolicyMember {
    /// Its name.
    pub name: &'static str,
    /// What leaving it out means.
    pub default: &'static str,
    /// What it means.
    pub about: &'static str,
    /// A value as written in a file.
    pub example: &'static str,
    /// What another value costs.
    pub cost: &'static str,
}

/// A placeholder for the names of all types of store.
const TYPES: &str = "{types}";

/// The names of these members, in their order.
pub(crate) fn names(lists: &[&'static [PolicyMember]]) -> Vec<&'static str> {
    lists.iter().flat_map(|list| list.iter().map(|member| member.name)).collect()
}

/// The members of each store.
pub const STORE: &[PolicyMember] = &[
    PolicyMember {
        name: "id",
        default: "must be given",
        about: "what policies call the store",
        example: "\"1\"",
        cost: "another id is another store: what is known of its copies is compared anew",
    },
    PolicyMember { name: "type", default: "must be given", about: TYPES, example: "\"folder\"", cost: "-" },
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
    PolicyMember {
        name: "audited",
        default: "`false`",
        about: "whether each change that Mill makes to the store is recorded in the audit log, and duplicated at once to where the store's policies say; it needs `auditLog`",
        example: "true",
        cost: "`true`: two rows and a task for each change",
    },
];

/// The members at the top of a stores file.
pub const STORES_FILE: &[PolicyMember] = &[
    PolicyMember {
        name: "stores",
        default: "must be given",
        about: "the account's stores",
        example: "[{ \"id\": \"1\", \"type\": \"folder\", \"root\": \"/srv/archive\" }]",
        cost: "-",
    },
    PolicyMember {
        name: "auditLog",
        default: "none: nothing is recorded",
        about: "where the account's audit log is",
        example: "{ \"stores\": [\"1\"], \"origin\": \"archive.example.org/audit\", \"signingKeyFile\": \"/run/secrets/audit-key\" }",
        cost: "-",
    },
];

/// The members of `auditLog`.
pub const AUDIT_LOG: &[PolicyMember] = &[
    PolicyMember {
        name: "stores",
        default: "must be given",
        about: "the stores that have the whole log",
        example: "[\"1\"]",
        cost: "each writes every entry",
    },
    PolicyMember {
        name: "origin",
        default: "must be given",
        about: "the log's name in its checkpoints; no other log has it",
        example: "\"archive.example.org/audit\"",
        cost: "another name is another log",
    },
    PolicyMember {
        name: "space",
        default: "`\"x-audit-log\"`",
        about: "the space of the log in these stores",
        example: "\"x-audit-log\"",
        cost: "another space is another log",
    },
    PolicyMember {
        name: "signingKeyEnv",
        default: "this or `signingKeyFile` must be given",
        about: "the environment variable that holds the key that `mill audit new-key` made",
        example: "\"AUDIT_KEY\"",
        cost: "-",
    },
    PolicyMember {
        name: "signingKeyFile",
        default: "this or `signingKeyEnv` must be given",
        about: "the file that holds it",
        example: "\"/run/secrets/audit-key\"",
        cost: "who can read it can sign another log",
    },
];

/// The members at the top of a policy file.
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
        about: "whether what is surely gone from the source goes from the destination: at once up to 20 items, or 1 % of them up to 1,000, in 24 hours and less than half; more is held until a person confirms it",
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

/// The members of one store policy.
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

/// The content of `docs/policy-files.md`.
pub fn policy_files_page() -> String {
    let mut out = String::from(
        "# Policy files\n\n\
         Generated from the members' own table (`policy/src/members.rs`), by which the readers refuse what they do not know; a \
         test compares the two.\n\n\
         Each account has its name in `duplication-accounts.json`, and two files beside it. `mill policy check` names every \
         fault with its line; `mill policy explain ACCOUNT SPACE` says what a space's policies come to.\n",
    );
    table("`<account>-stores.json`", STORES_FILE, &mut out);
    table("`stores` is a list of these", STORE, &mut out);
    for StoreType { name, members, nested, .. } in STORE_TYPES {
        table(&format!("More of a store of type `{name}`"), members, &mut out);
        for (object, members) in *nested {
            table(&format!("`{object}` of a store of type `{name}`"), members, &mut out);
        }
    }
    table("`auditLog`", AUDIT_LOG, &mut out);
    table("`<account>-duplication-policy.json`", POLICY_FILE, &mut out);
    table("One store policy", STORE_POLICY, &mut out);
    out
}

fn table(head: &str, members: &[PolicyMember], out: &mut String) {
    let types = names_of_types(|name| format!("`\"{name}\"`"));
    let _ = write!(
        out,
        "\n## {head}\n\n| member | left out | what it is | for example | what it costs |\n|---|---|---|---|---|\n"
    );
    for PolicyMember { name, default, about, example, cost } in members {
        let about = about.replace(TYPES, &types);
        let _ = writeln!(out, "| `{name}` | {default} | {about} | `{example}` | {cost} |");
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::diagnostic::Diagnostic;
    use crate::{policy_file, stores_file};

    /// An object with the example of `member` and of all required members. The table's text on the default says which
    /// are required.
    fn example(table: &[&PolicyMember], member: &PolicyMember) -> String {
        let mut given = vec![member];
        let others = |default: &str| default.split('`').nth(1).map(str::to_owned);
        if let Some(needed) = member.default.contains("belongs to").then(|| others(member.default)).flatten() {
            given.extend(table.iter().find(|other| other.name == needed));
        }
        for other in table.iter().filter(|other| other.name != member.name && other.default.contains("must be given")) {
            let instead = others(other.default);
            if !given.iter().any(|given| Some(given.name) == instead.as_deref()) {
                given.push(other);
            }
        }
        let members: Vec<String> = given.iter().map(|of| format!("\"{}\": {}", of.name, of.example)).collect();
        format!("{{ {} }}", members.join(", "))
    }

    fn read_store(store: &str) -> Vec<Diagnostic> {
        let log = format!("\"auditLog\": {}", STORES_FILE[1].example);
        stores_file::read("stores", format!("{{ \"stores\": [{store}], {log} }}").as_bytes()).1
    }

    #[test]
    fn each_member_of_a_store_with_its_example_is_read_without_a_word() {
        for of in STORE_TYPES {
            let quoted = format!("\"{}\"", of.name).leak();
            let of_type = PolicyMember { name: "type", default: "must be given", about: "", example: quoted, cost: "" };
            let with = |member: &PolicyMember| {
                let shared = STORE.iter().map(|shared| if shared.name == "type" { &of_type } else { shared });
                let member = if member.name == "type" { &of_type } else { member };
                example(&shared.chain(of.members).collect::<Vec<_>>(), member)
            };
            for member in STORE.iter().chain(of.members) {
                assert_eq!(read_store(&with(member)), [], "{} {}", of.name, member.name);
            }
            for (object, members) in of.nested {
                let object = of.members.iter().find(|member| member.name == *object).expect("a member of the type");
                for member in *members {
                    let example = example(&members.iter().collect::<Vec<_>>(), member).leak();
                    let object = PolicyMember { example, ..*object };
                    assert_eq!(read_store(&with(&object)), [], "{} {} {example}", of.name, member.name);
                }
            }
        }
    }

    #[test]
    fn each_member_of_an_audit_log_with_its_example_is_read_without_a_word() {
        for member in AUDIT_LOG {
            let log = example(&AUDIT_LOG.iter().collect::<Vec<_>>(), member);
            let file = format!("{{ \"stores\": {}, \"auditLog\": {log} }}", STORES_FILE[0].example);
            assert_eq!(stores_file::read("stores", file.as_bytes()).1, [], "{}", member.name);
        }
    }

    #[test]
    fn each_member_of_a_policy_with_its_example_is_read_without_a_word() {
        for PolicyMember { name, example, .. } in POLICY_FILE {
            let file = format!("{{ \"{name}\": {example} }}");
            assert_eq!(policy_file::read("policy", file.as_bytes(), None).1, [], "{name}");
        }
        for member in STORE_POLICY {
            let policy = example(&STORE_POLICY.iter().collect::<Vec<_>>(), member);
            let file = format!("{{ \"defaultPolicies\": [{policy}] }}");
            assert_eq!(policy_file::read("policy", file.as_bytes(), None).1, [], "{}", member.name);
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

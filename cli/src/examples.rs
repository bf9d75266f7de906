//! The examples at the end of each command's help.

pub(crate) mod audit;

pub(crate) const INIT: &str = "Examples:
  mill init /etc/mill                   mill.toml and policies/, to be filled in
  mill init /etc/mill --engine aws      the same for a fleet

Nothing that is there already is changed.";

pub(crate) const RUN: &str = "Examples:
  mill run                              all accounts, in this process
  mill run --processes 4                with workmen in four processes of their own
  mill run --quiet                      in a crontab: says only what a person should know
  mill run -v                           a line for each item that changes or cannot
  mill run --report report.jsonl        for auditors: a line for each entry

A run that was stopped or killed goes on where it was.";

pub(crate) const WORK: &str = "Examples:
  mill work                             serves the queues of mill.toml until stopped
  mill work --queues duplication-high   urgent work alone
  mill work --workers 8                 on a host that does other work too
  mill work --watch                     on a laptop: a change in a source folder is at its copy in seconds

Any number may work, on any number of hosts. `mill produce duplication` fills their queues.";

pub(crate) const STATUS: &str = "Examples:
  mill status
  mill status --json                    one object, for a monitor";

pub(crate) const POLICY: &str = "Examples:
  mill policy check                     the configured files
  mill policy check ~/new-policies      a folder of files, before they are used
  mill policy show library
  mill policy explain library photos";

pub(crate) const POLICY_CHECK: &str = "Examples:
  mill policy check                     the configured files
  mill policy check ~/new-policies      a folder of files, before they are used";

pub(crate) const POLICY_SHOW: &str = "Example:
  mill policy show library";

pub(crate) const POLICY_EXPLAIN: &str = "Example:
  mill policy explain library photos";

pub(crate) const RESTORE: &str = "Examples:
  mill restore --mirror ~/Pictures /mnt/backup/Pictures ~/Pictures-back
  mill restore --mirror ~/Pictures s3://my-backup/pictures ~/Pictures-back
  mill restore --mirror ~/Pictures /mnt/copy s3://new/pictures --create
  mill restore library photos --from 2 /srv/photos-back
  mill restore library photos --from 2 /srv/back --item 2024/summer   only that folder, or that item
  mill restore library photos --from 2 s3://new/photos --to-profile new
  mill restore library photos --from 2 /srv/photos --overwrite      also replaces what differs there

Each item is compared with what was proven when it was copied. What differs is named, and not brought back
without --unproven. What TO does not keep of times, modes and headers is named too. The copy is only read.";

pub(crate) const SPACES: &str = "Examples:
  mill spaces owner library 2 photos    from which source it is kept in sync
  mill spaces release library 2 photos  lets another source take it over";

pub(crate) const SPACES_OWNER: &str = "Example:
  mill spaces owner library 2 photos";

pub(crate) const SPACES_RELEASE: &str = "Example:
  mill spaces release library 2 photos";

pub(crate) const PLACES: &str = "Examples:
  mill places list
  mill places accept library 2          after the disk of store 2 was replaced";

pub(crate) const PLACES_LIST: &str = "Example:
  mill places list";

pub(crate) const PLACES_ACCEPT: &str = "Example:
  mill places accept library 2";

pub(crate) const DEAD_LETTERS: &str = "Examples:
  mill deadletters list
  mill deadletters show ID              with its whole history
  mill deadletters retry --all          once the cause is mended
  mill deadletters discard ID --reason 'removed on purpose'
  mill deadletters list --mirror ~/Pictures /mnt/backup/Pictures";

pub(crate) const DEAD_LETTERS_LIST: &str = "Examples:
  mill deadletters list
  mill deadletters list --mirror ~/Pictures s3://my-backup/pictures
  mill deadletters list --all --json    also those that are closed, a line each";

pub(crate) const DEAD_LETTERS_SHOW: &str = "Examples:
  mill deadletters show ID
  mill deadletters show ID --mirror ~/Pictures /mnt/backup/Pictures";

pub(crate) const DEAD_LETTERS_RETRY: &str = "Examples:
  mill deadletters retry ID
  mill deadletters retry --all
  mill deadletters retry --all --mirror ~/Pictures /mnt/backup/Pictures";

pub(crate) const DEAD_LETTERS_DISCARD: &str = "Example:
  mill deadletters discard ID --reason 'removed on purpose'";

pub(crate) const INFRA: &str = "Examples:
  mill infra create                     queues and tables, where nothing else deploys them
  mill infra check                      names whatever is not as this mill assumes";

pub(crate) const INFRA_CREATE: &str = "Example:
  mill --config /etc/mill/mill.toml infra create";

pub(crate) const INFRA_CHECK: &str = "Example:
  mill --config /etc/mill/mill.toml infra check";

pub(crate) const CONFIG: &str = "Example:
  mill config show                      each setting, its value, and where it comes from";

pub(crate) const COMPLETIONS: &str = "Example:
  mill completions bash > ~/.local/share/bash-completion/completions/mill";

pub(crate) const HELP: &str = "Examples:
  mill help exit-codes                  what scripts can rely on
  mill help mirror";

pub(crate) const HELD_LIST: &str = "Examples:
  mill held list
  mill held list --mirror ~/Pictures /mnt/backup/Pictures";

pub(crate) const HELD_SHOW: &str = "Example:
  mill held show 3000-9f86d081884c7d65";

pub(crate) const HELD_CONFIRM: &str = "Example:
  mill held confirm 3000-9f86d081884c7d65      the next `mill run` deletes them";

pub(crate) const HELD_WITHDRAW: &str = "Example:
  mill held withdraw 3000-9f86d081884c7d65";

pub(crate) const PRODUCE: &str = "Examples:
  mill produce duplication --stay       as a service
  mill produce duplication --quiet      in a crontab";

pub(crate) const RUNS: &str = "Examples:
  mill runs list
  mill runs show                        the last one
  mill runs list --mirror ~/Pictures /mnt/backup/Pictures

A run that was killed is listed as not ended. `--report FILE` at a run names every entry.";

pub(crate) const RUNS_LIST: &str = "Examples:
  mill runs list
  mill runs list --json                 for scripts: a line for each run
  mill runs list --mirror ~/Pictures /mnt/backup/Pictures";

pub(crate) const RUNS_SHOW: &str = "Examples:
  mill runs show                        the last one
  mill runs show 20261121083000000-3f2a
  mill runs show --mirror ~/Pictures /mnt/backup/Pictures";

#[cfg(test)]
mod tests {
    use clap::{Command, CommandFactory as _};

    use crate::args::Cli;

    #[test]
    fn every_help_has_an_example() {
        fn check(command: &Command, path: &str) {
            for command in command.get_subcommands().filter(|command| !command.is_hide_set()) {
                let before: String =
                    if path == "mill audit index" { " library 1 photos".into() } else { String::new() };
                let path = format!("{path}{before} {}", command.get_name());
                let text = command.get_after_help().map(ToString::to_string).unwrap_or_default();
                assert!(text.contains(&format!("  {path}")) || text.contains("mill --config"), "{path}: {text}");
                assert!(text.lines().all(|line| line.len() <= 110), "{text}");
                check(command, &path);
            }
        }
        check(&Cli::command(), "mill");
    }
}

//! Exit codes that tell how a run ended.

use mill_model::Totals;

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Exit {
    /// Done.
    Done,
    /// Done, and nothing had to be changed; only with `--detailed-exit-code`.
    Unchanged,
    /// Done with warnings: something was refused or held back.
    Warnings,
    /// Done in part: items failed, or the run was stopped.
    Partial,
    /// It could not be done.
    Error,
    /// The arguments make no sense.
    BadArguments,
}

impl Exit {
    /// The process's exit code.
    pub(crate) const fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Unchanged => 1,
            Self::Warnings => 2,
            Self::Partial => 50,
            Self::Error => 100,
            Self::BadArguments => 200,
        }
    }

    /// The code of a run that ended by itself, from what it did.
    pub(crate) fn of_run(totals: &Totals, detailed: bool) -> Self {
        if totals.dead_lettered > 0 {
            Self::Partial
        } else if totals.refused + totals.held > 0 {
            Self::Warnings
        } else if detailed && !totals.changed() {
            Self::Unchanged
        } else {
            Self::Done
        }
    }
}

/// The text of `mill help exit-codes`.
pub(crate) const HELP: &str = "\
Exit codes of mill

  0    done
  1    done, and nothing had to be changed (only with --detailed-exit-code; else 0)
  2    done with warnings: something was refused (a symbolic link, say) or deletes were held back;
       for a producer under cron: an account failed, the others went on
  50   done in part: items failed or the run was stopped; run it again
  100  error: it could not be done; the message says why
  200  bad arguments

Example, in a script:
  mill mirror ~/Pictures /mnt/backup/Pictures
  case $? in
    0) echo \"every copy is in step\" ;;
    2) echo \"in step, but see the warnings\" ;;
    50) echo \"not all of it: run again\" ;;
    *) echo \"it did not work\" ;;
  esac
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_that_happened_decides() {
        let mut totals = Totals { unchanged: 7, ..Totals::default() };
        assert_eq!(Exit::of_run(&totals, false), Exit::Done);
        assert_eq!(Exit::of_run(&totals, true), Exit::Unchanged);
        totals.updated = 1;
        assert_eq!(Exit::of_run(&totals, true), Exit::Done);
        totals.held = 1;
        assert_eq!(Exit::of_run(&totals, true), Exit::Warnings);
        totals.dead_lettered = 1;
        assert_eq!(Exit::of_run(&totals, true), Exit::Partial);
    }
}

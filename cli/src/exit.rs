//! The text on exit codes.

/// The text of `mill help exit-codes`.
pub(crate) const HELP: &str = "\
Exit codes of mill

  0    done
  1    done, and nothing had to be changed (only with --detailed-exit-code; else 0)
  2    done with warnings: something was refused (a symbolic link, a space that may not be listed) or is left
       out by a rule, items vanished meanwhile, deletes were held back, or nothing is configured or there to
       be copied; or standard output could not be written;
       for a producer under cron: an account failed, the others went on
  50   done in part: items failed or are missing at the end, the destination has no room for some or lets them
       not be written, a verification found faults that no later one has found gone, a path that was named
       does not answer, or the run was stopped; the last line says whether to run it again is enough, or what
       is to be seen to first
  100  error: it could not be done, or nothing of it; the message says why
  200  bad arguments

Example, in a script:
  mill mirror ~/Pictures /mnt/backup/Pictures
  case $? in
    0) echo \"every copy is in sync\" ;;
    2) echo \"in sync, but for what the warnings name\" ;;
    50) echo \"not all of it: see to what it names, and run it again\" ;;
    *) echo \"it did not work\" ;;
  esac
";

//! Clocks that are set. Time that allows a delete has passed only if two clocks agree.

use std::fs;

use mill_trials::{clock, in_mount_namespace};

use super::{Installed, count, files};
use crate::world::Ran;

/// Runs `mill` with another wall clock time.
fn at(installed: &Installed, time: &str, args: &[&str]) -> Result<Ran, mill_trials::MissingRequirement> {
    let mut command = installed.world.command();
    clock::set_wall_clock(&mut command, time)?;
    Ok(Ran::of(command.args(args).output().unwrap()))
}

#[test]
fn a_clock_that_jumps_by_a_day_does_not_make_a_space_missing_for_a_day() {
    in_mount_namespace(|| {
        let installed = Installed::new();
        let world = &installed.world;
        files(world, "one/photos", 30, "photo");
        files(world, "one/letters", 3, "letter");
        installed.run().expect(0);
        fs::rename(world.path("one/photos"), world.path("aside")).unwrap();
        installed.run();
        for time in ["+25h", "+800h"] {
            let ran = at(&installed, time, &["run", "--json", "--confirm-deletes", "30"])?;
            assert_eq!(count(world, "two/photos"), 30, "{} {}", ran.out, ran.err);
        }
        fs::rename(world.path("aside"), world.path("one/photos")).unwrap();
        installed.run();
        assert_eq!(count(world, "two/photos"), 30);
        Ok(())
    });
}

#[test]
fn a_clock_that_was_once_in_2099_does_not_stop_the_producer_for_ever() {
    in_mount_namespace(|| {
        let installed = Installed::new();
        files(&installed.world, "one/photos", 3, "photo");
        let ran = at(&installed, "@2099-01-01 00:00:00", &["produce", "duplication"])?.expect(0);
        assert!(ran.out.contains("loop finished"), "{}", ran.out);
        files(&installed.world, "one/photos", 5, "photo");
        let ran = installed.world.mill(&["produce", "duplication"]).expect(0);
        assert!(ran.out.contains("loop finished"), "{}", ran.out);
        let ran = installed.world.mill(&["produce", "duplication"]).expect(0);
        assert!(ran.out.contains("not due"), "and by the right clock a loop a day is enough: {}", ran.out);
        Ok(())
    });
}

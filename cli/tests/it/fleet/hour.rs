//! The long trial of a tree that comes and goes (`reality/hour.rs`) on the fleet engine.

use std::process::Command;

use mill_trials::apart;

use super::{CREDENTIALS, boto, ministack};
use crate::reality::hour::{Fleet, trial};
use crate::world::World;

struct OfServices(World);

impl OfServices {
    fn new() -> Self {
        let (world, endpoint) = (World::new(), ministack());
        world.mill(&["init", ".", "--engine", "aws"]).expect(0);
        world.write(
            "mill.toml",
            format!(
                "[engine]\ntype = \"aws\"\nprefix = \"hour\"\nendpoint = \"{endpoint}\"\n\
                 [workman]\nidle-backoff = \"200ms\"\n"
            ),
        );
        crate::reality::policies(&world);
        let fleet = Self(world);
        assert!(fleet.command().args(["infra", "create"]).status().unwrap().success());
        fleet
    }
}

impl Fleet for OfServices {
    fn world(&self) -> &World {
        &self.0
    }

    fn command(&self) -> Command {
        let mut command = self.0.command();
        command.envs(CREDENTIALS);
        command
    }

    fn lists(&self) -> String {
        boto(
            &self.0,
            &format!(
                "dynamo = client('dynamodb', '{}')
pages = dynamo.get_paginator('scan').paginate(TableName='hour-delete-lists')
print(json.dumps([[row['p']['S'], row['s']['S'], row['v']['B'].decode()] for page in pages for row in page['Items']]))",
                ministack()
            ),
        )
    }
}

#[test]
fn hour_of_a_tree_that_comes_and_goes_on_the_fleet_engine() {
    apart(|| trial(&OfServices::new()));
}

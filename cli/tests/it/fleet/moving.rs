//! A source that moves, on queues and tables of the fleet's services.

use super::{CREDENTIALS, boto, ministack};
use crate::moving::{self, Engine};
use crate::world::Ran;

const PREFIX: &str = "moving";

#[test]
fn of_a_source_that_moves_only_what_people_took_away_is_deleted_by_a_fleet() {
    moving::trial(|world| {
        let endpoint = ministack();
        world.mill(&["init", ".", "--engine", "aws"]).expect(0);
        world.write(
            "mill.toml",
            format!(
                "[engine]\ntype = \"aws\"\nprefix = \"{PREFIX}\"\nendpoint = \"{endpoint}\"\n[policies]\nfolder = \"policies\"\n"
            ),
        );
        let script = format!(
            "
table = client('dynamodb', '{endpoint}').get_paginator('scan')
for page in table.paginate(TableName='{PREFIX}-delete-lists', ConsistentRead=True):
    for item in page['Items']:
        print(json.dumps([item['p']['S'], item['s']['S'], item['v']['B'].decode()]))"
        );
        let environment = CREDENTIALS.map(|(name, value)| (name, value.to_owned())).to_vec();
        let made = world.command().args(["infra", "create"]).envs(CREDENTIALS).output().unwrap();
        Ran::of(made).expect(0);
        Engine { environment, lists: Box::new(move |world| boto(world, &script)) }
    });
}

use serde_json::json;

use super::*;

fn duplicate(detail: Value) -> Result<DuplicateTask, TaskError> {
    let Value::Object(detail) = detail else { panic!("a detail is an object") };
    DuplicateTask::from_task(&Task { kind: DuplicateTask::KIND, account: AccountId::new("a").unwrap(), detail })
}

#[test]
fn an_item_alone_is_read_the_same_however_it_is_written() {
    let one = duplicate(json!({"source": "1", "destination": "2", "space": "s", "item": "x"})).unwrap();
    assert_eq!(duplicate(json!({"source": "1", "destination": "2", "space": "s", "items": ["x"]})), Ok(one.clone()));
    assert_eq!((one.subject().as_str(), one.items()[0].as_str()), ("a/s/x", "x"));
    assert_eq!(one.stores().iter().map(ToString::to_string).collect::<Vec<_>>(), ["a:1", "a:2"]);
}

#[test]
fn a_task_of_no_item_is_never_read_as_one_of_the_space() {
    for wrong in [json!([]), json!(""), json!([""]), json!([1])] {
        assert!(
            duplicate(json!({"source": "1", "destination": "2", "space": "s", "items": wrong})).is_err(),
            "{wrong}"
        );
    }
    let both = json!({"source": "1", "destination": "2", "space": "s", "item": "x", "items": ["y"]});
    assert!(duplicate(both).unwrap_err().to_string().contains("both"));
    let none = duplicate(json!({"source": "1", "destination": "2", "space": "s"})).unwrap();
    assert_eq!((none.scope.clone(), none.subject()), (DuplicateScope::Space, "a/s".to_owned()));
}

#[test]
fn what_is_wrong_with_a_task_is_named() {
    let why = |detail| duplicate(detail).unwrap_err().to_string();
    assert_eq!(why(json!({"source": "1"})), "`duplicate` task: missing field `destination`");
    let no_id = why(json!({"source": "1", "destination": "-", "space": "s"}));
    assert!(no_id.contains("`-` is no store id: it must begin with a letter or a digit"), "{no_id}");
    let task = Task { kind: TaskKind::new("other"), account: AccountId::new("a").unwrap(), detail: Map::new() };
    assert_eq!(RemoveTask::from_task(&task).unwrap_err().to_string(), "it is a `other` task, not a `remove` task");
}

#[test]
fn the_account_of_a_task_is_that_of_its_envelope() {
    let detail = json!({"account": "b", "source": "1", "destination": "2", "space": "s"});
    assert_eq!(duplicate(detail).unwrap().account().as_str(), "a");
}

//! The template of `infra/deploy`, and stacks deployed from it, by the output of `stack.py`.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

use super::ministack::tool;

/// The output of `stack.py`.
pub(crate) fn stack(arguments: &[&str], input: &Value) -> Value {
    let mut folders = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors();
    let script =
        folders.find_map(|folder| Some(folder.join("infra/aws/tests/it/stack.py")).filter(|path| path.exists()));
    let mut child = Command::new(tool("python"))
        .arg(script.unwrap())
        .args(arguments)
        .env_remove("AWS_CA_BUNDLE")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.to_string().as_bytes()).unwrap();
    let said = child.wait_with_output().unwrap();
    assert!(said.status.success(), "stack.py {arguments:?} failed");
    serde_json::from_slice(&said.stdout).unwrap()
}

/// Deploys to a server, and checks that everything was made.
pub(crate) fn deployed(server: &str, name: &str, settings: &[&str]) -> Value {
    let told = stack(&[&["up", server, name], settings].concat(), &Value::Null);
    assert_eq!(told["status"], "CREATE_COMPLETE", "{told}");
    assert_eq!(told["failures"], Value::Array(Vec::new()), "{told}");
    told
}

/// Checks the server's policy evaluation for each question.
#[track_caller]
pub(crate) fn answered(server: &str, name: &str, asked: &[(Value, &str)]) {
    let questions = asked.iter().map(|(question, _)| question.clone()).collect();
    let answers = stack(&["may", server, name], &Value::Array(questions));
    let answers = answers.as_array().unwrap();
    assert_eq!(answers.len(), asked.len());
    let wrong: Vec<String> = asked
        .iter()
        .zip(answers)
        .filter(|((_, expected), answer)| *answer != expected)
        .map(|((question, expected), answer)| format!("{question}: {answer}, not {expected}"))
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

//! Runs the simulated fleet: see `docs/simulation.md`.

#![allow(clippy::print_stdout, clippy::print_stderr)] // a program for the terminal
#![allow(clippy::disallowed_methods)] // it tells how long it really took

use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;
use mill_hooks::planted_bugs::{PlantedBug, plant};
use mill_simulation::campaign::{self, Campaign, Tally};
use mill_simulation::{self as sim, Outcome};

/// Runs worlds in which everything goes wrong, and judges whether Mill keeps its promises in them.
#[derive(Parser)]
struct Args {
    /// How many seeds to run.
    #[arg(long, default_value_t = 1000)]
    seeds: u64,
    /// The first seed.
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// Runs this one seed only.
    #[arg(long)]
    seed: Option<u64>,
    /// Prints all that happened in that seed.
    #[arg(long, requires = "seed")]
    trace: bool,
    /// Runs each of so many seeds twice, and compares the traces.
    #[arg(long)]
    replay: Option<u64>,
    /// With this bug on purpose (`all`: one after the other); stops at the first seed that finds it.
    #[arg(long)]
    planted: Option<String>,
    /// Fails unless each kind of fault struck so often.
    #[arg(long, default_value_t = 0)]
    require_faults: u64,
    /// Threads; as many as there are cores, if not said.
    #[arg(long)]
    threads: Option<u64>,
    /// One JSON object as the last line.
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let well = match (&args.planted, args.replay, args.seed) {
        (Some(bug), _, None) => planted(&args, bug),
        (bug, None, Some(seed)) => one(&args, seed, bug.as_deref()),
        (None, Some(seeds), None) => replayed(&args, seeds),
        _ => many(&args),
    };
    if well { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn threads(args: &Args) -> u64 {
    args.threads.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, |cores| cores.get() as u64))
}

fn commit() -> String {
    let head = std::process::Command::new("git").args(["rev-parse", "--short=12", "HEAD"]).output();
    let head = head.ok().filter(|output| output.status.success());
    head.map_or_else(|| "unknown".into(), |output| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn bug(name: &str) -> Option<PlantedBug> {
    PlantedBug::ALL.iter().copied().find(|bug| bug.as_str() == name)
}

fn one(args: &Args, seed: u64, with: Option<&str>) -> bool {
    plant(with.and_then(bug));
    let outcome = sim::run(seed, true);
    plant(None);
    if args.trace {
        outcome.lines.iter().for_each(|line| println!("{line}"));
    }
    println!("seed {seed}: {} events, trace {:016x}", outcome.events, outcome.trace_hash);
    if outcome.violation.is_some() {
        failed(&outcome);
    }
    outcome.violation.is_none()
}

/// Prints a failing seed, and of its history what mattered.
fn failed(outcome: &Outcome) {
    const LAST: usize = 40;
    let Some(violation) = &outcome.violation else { return };
    println!("\nVIOLATION in seed {} at commit {}", outcome.seed, commit());
    println!("  {}: {}", violation.invariant, violation.what);
    // The same world again, with its lines, of which those that name what the violation names are shown.
    let lines = if outcome.lines.is_empty() { sim::run(outcome.seed, true).lines } else { outcome.lines.clone() };
    let end = lines.iter().position(|line| line.contains("VIOLATION")).map_or(lines.len(), |at| at + 1);
    let words: Vec<&str> = violation.what.split([' ', ',', ':', '`']).filter(|word| matters(word)).collect();
    let about: Vec<&String> = lines[..end]
        .iter()
        .filter(|line| words.iter().any(|word| line.contains(word)) || line.contains(": * "))
        .collect();
    for line in about.iter().skip(about.len().saturating_sub(LAST)) {
        println!("    {line}");
    }
    println!("  all of it: simulate --seed {} --trace", outcome.seed);
}

fn matters(word: &str) -> bool {
    word.len() > 4 && (word.contains('/') || word.contains('-') || word.chars().any(|letter| letter.is_ascii_digit()))
}

fn replayed(args: &Args, seeds: u64) -> bool {
    let differs = campaign::replay(args.from, seeds);
    match differs {
        None => println!("{seeds} seeds replayed: each trace is the same twice"),
        Some(seed) => println!("seed {seed} has two traces"),
    }
    differs.is_none()
}

fn planted(args: &Args, name: &str) -> bool {
    let bugs: Vec<PlantedBug> = if name == "all" { PlantedBug::ALL.to_vec() } else { bug(name).into_iter().collect() };
    if bugs.is_empty() {
        println!(
            "no bug of that name; there are: {}",
            PlantedBug::ALL.iter().map(|bug| bug.as_str()).collect::<Vec<_>>().join(" ")
        );
        return false;
    }
    let mut all = true;
    for bug in bugs {
        let began = Instant::now();
        let (from, seeds, threads) = (args.from, args.seeds, threads(args));
        let tally = Campaign { from, seeds, threads, planted: Some(bug), stops: true }.run(&|_| {});
        let seconds = began.elapsed().as_secs_f64();
        if let Some(Outcome { seed, violation: Some(violation), .. }) = tally.violations.first() {
            let (name, took, invariant) = (bug.as_str(), seed - from + 1, &violation.invariant);
            println!("{name:32} found after {took:5} seeds ({seconds:5.1} s): {invariant}");
        } else {
            all = false;
            println!("{:32} NOT FOUND in {seeds} seeds ({seconds:.1} s)", bug.as_str());
        }
    }
    all
}

fn many(args: &Args) -> bool {
    let began = Instant::now();
    let progress = |done: u64| {
        if done.is_multiple_of(5000) {
            eprintln!("{done} seeds");
        }
    };
    let campaign = Campaign {
        from: args.from,
        seeds: args.seeds,
        threads: threads(args),
        planted: args.planted.as_deref().and_then(bug),
        stops: false,
    };
    let tally = campaign.run(&progress);
    let seconds = began.elapsed().as_secs_f64();
    let rare: Vec<_> = tally.faults.each().filter(|(_, count)| *count < args.require_faults).collect();
    tally.violations.iter().take(5).for_each(failed);
    report(args, &tally, seconds);
    for (fault, count) in &rare {
        println!("TOO RARE: {fault} struck {count} times, of {} required", args.require_faults);
    }
    tally.violations.is_empty() && rare.is_empty()
}

fn report(args: &Args, tally: &Tally, seconds: f64) {
    let hours = tally.virtual_time.as_secs() / 3600;
    println!(
        "{} seeds from {} in {seconds:.1} s ({:.0}/s), commit {}",
        tally.seeds,
        args.from,
        tally.seeds as f64 / seconds,
        commit()
    );
    println!(
        "{} faults, {} deliveries, {} events, {hours} virtual hours, {} violations",
        tally.faults.total(),
        tally.deliveries,
        tally.events,
        tally.violations.len()
    );
    if args.json {
        let faults: serde_json::Map<_, _> =
            tally.faults.each().map(|(fault, count)| (fault.as_str().to_owned(), count.into())).collect();
        let violations: Vec<_> = tally.violations.iter().filter_map(|outcome| {
            let violation = outcome.violation.as_ref()?;
            Some(serde_json::json!({ "seed": outcome.seed, "invariant": violation.invariant, "what": violation.what }))
        }).collect();
        println!(
            "{}",
            serde_json::json!({
                "commit": commit(), "from": args.from, "seeds": tally.seeds, "seconds": seconds, "deliveries": tally.deliveries,
                "events": tally.events, "virtual_hours": hours, "faults": faults, "violations": violations,
            })
        );
    } else {
        for (fault, count) in tally.faults.each() {
            println!("  {:28} {count:9}", fault.as_str());
        }
    }
}

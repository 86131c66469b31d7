//! The crash matrix: one backfill, killed before and after every effect it has on the world, and
//! started again. Whatever happened, the table holds every record exactly once in the end.
//!
//! The scenario: three windows of three days; a duplicate in the first; a reject in the second, whose
//! partition holds rows of an older load, and whose first load job fails; the third as it should be.
//! BigQuery is the embedded server, which outlives the crashes; the source and the staging folder are real.
//! The same once more with windows that append: the older rows stay, and the third brings a late record.
//!
//! `API2BQ_CRASH_PAIRS=N` takes N pairs of crashes instead of 500; `all` takes every one, for hours.

mod reaper;
mod world;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context as _, Result, ensure};

use reaper::{How, Point, Reaper, Side};
use world::{Ended, Scenario, Stage, World};

/// Work of both cores: each takes the next case and has a BigQuery of its own.
fn all_of(cases: usize, case: impl Fn(&mut World, usize) -> Result<()> + Sync) {
    all_in(Scenario::Replace, cases, case);
}

fn all_in(scenario: Scenario, cases: usize, case: impl Fn(&mut World, usize) -> Result<()> + Sync) {
    let next = AtomicUsize::new(0);
    let failures: Vec<String> = std::thread::scope(|scope| {
        let worker = |worker: usize| {
            let (next, case) = (&next, &case);
            scope.spawn(move || {
                let mut world = World::of(scenario, worker);
                let mut failures = Vec::new();
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= cases || failures.len() >= 3 {
                        return failures;
                    }
                    if let Err(failure) = case(&mut world, number) {
                        failures.push(format!("{failure:#}"));
                    }
                }
            })
        };
        let workers: Vec<_> = (0..2).map(worker).collect();
        workers.into_iter().flat_map(|worker| worker.join().expect("no panic")).collect()
    });
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
}

/// Every effect of an undisturbed run by its name, with how often it comes; of two runs the part
/// that both have, since how often a job is polled is the weather's.
fn effects_of_a_run(scenario: Scenario) -> Vec<(String, usize)> {
    let mut world = World::of(scenario, 9);
    let mut record = || {
        let reaper = Arc::new(Reaper::watching());
        let stage = world.stage().expect("a stage");
        let ended = world.run(&stage, 1, &reaper).expect("it starts");
        assert!(matches!(ended, Ended::Complete), "{ended:?}");
        stage.check_complete(&world).expect("an undisturbed run is right");
        reaper.counts()
    };
    let (one, two) = (record(), record());
    let both = one.into_iter().filter_map(|(name, count)| {
        Some((two.get(&name)?.min(&count), name.clone())).map(|(n, name)| (name, *n))
    });
    both.collect()
}

fn points() -> Vec<(String, usize)> {
    points_of(Scenario::Replace)
}

fn points_of(scenario: Scenario) -> Vec<(String, usize)> {
    let effects = effects_of_a_run(scenario);
    effects.iter().flat_map(|(name, count)| (0..*count).map(move |nth| (name.clone(), nth))).collect()
}

/// Runs into `first`, then again until it is complete, and checks everything on the way.
fn survive(
    world: &mut World,
    first: Point,
    second: Option<Point>,
    jobs: usize,
) -> Result<(bool, bool, usize)> {
    let stage = world.stage()?;
    let told = format!("{first:?}, then {second:?}, {jobs} jobs");
    let run = |point: Option<Point>| -> Result<(Ended, Arc<Reaper>)> {
        let reaper = Arc::new(point.map_or_else(Reaper::watching, Reaper::waiting_for));
        let ended = world.run(&stage, jobs, &reaper)?;
        stage.check_between(world)?;
        Ok((ended, reaper))
    };
    let mut reached = [false, false];
    let mut effects = 0;
    for (nth, point) in [Some(first), second].into_iter().flatten().enumerate() {
        let (_, reaper) = run(Some(point)).with_context(|| told.clone())?;
        reached[nth] = reaper.has_struck();
    }
    // A lost answer may leave windows to be done; the same command once more has to do them.
    for attempt in 0.. {
        let (ended, reaper) = run(None).with_context(|| told.clone())?;
        effects += reaper.total();
        match ended {
            Ended::Complete => break,
            Ended::Failed(why) => ensure!(attempt < 1, "{told}: still not complete: {why}"),
            Ended::Crashed => anyhow::bail!("{told}: crashed without being told to"),
        }
    }
    stage.check_complete(world).with_context(|| told.clone())?;
    Ok((reached[0], reached[1], effects))
}

/// Effects that come more or less often from run to run: looks at jobs that are not done yet.
fn is_weather(name: &str) -> bool {
    name.starts_with("Clock ")
        || name.contains("GET projects/PROJECT/jobs/")
        || name.starts_with("Source read")
}

#[test]
fn a_crash_before_or_after_any_effect_loses_and_doubles_nothing() {
    let points = points();
    let (struck, most_effects) = (AtomicUsize::new(0), AtomicUsize::new(0));
    all_of(points.len() * 2, |world, case| {
        let (name, nth) = points[case / 2].clone();
        let side = if case % 2 == 0 { Side::Before } else { Side::After };
        let weather = is_weather(&name);
        let (reached, _, effects) = survive(world, Point::named(&name, nth, side, How::Crash), None, 1)?;
        ensure!(reached || weather, "`{name}` number {nth} was not reached");
        struck.fetch_add(usize::from(reached), Ordering::Relaxed);
        most_effects.fetch_max(effects, Ordering::Relaxed);
        Ok(())
    });
    let (n, struck) = (points.len(), struck.into_inner());
    println!("{n} effects, {struck} crashes before and after them");
    assert!(
        n >= 60 && struck >= 2 * n - n / 4,
        "{n} effects, {struck} crashes: the matrix has lost its points"
    );
    // Invariant 7: recovery has an end.
    assert!(most_effects.into_inner() <= 2 * n, "recovery took more than twice the effects of a run");
}

#[test]
fn an_answer_that_gets_lost_before_or_after_any_effect_loses_and_doubles_nothing() {
    let points = points();
    let struck = AtomicUsize::new(0);
    all_of(points.len() * 2, |world, case| {
        let (name, nth) = points[case / 2].clone();
        let side = if case % 2 == 0 { Side::Before } else { Side::After };
        let weather = is_weather(&name);
        let (reached, _, _) = survive(world, Point::named(&name, nth, side, How::Lose), None, 1)?;
        ensure!(reached || weather, "`{name}` number {nth} was not reached");
        struck.fetch_add(usize::from(reached), Ordering::Relaxed);
        Ok(())
    });
    println!("{} effects, {} answers lost", points.len(), struck.into_inner());
}

/// What is appended twice stays twice: every point once with each side and each way to strike.
#[test]
fn windows_that_append_lose_and_double_nothing_wherever_they_are_struck() {
    let points = points_of(Scenario::Append);
    let ways = [
        (Side::Before, How::Crash),
        (Side::After, How::Crash),
        (Side::Before, How::Lose),
        (Side::After, How::Lose),
    ];
    let struck = AtomicUsize::new(0);
    all_in(Scenario::Append, points.len() * ways.len(), |world, case| {
        let (name, nth) = points[case / ways.len()].clone();
        let (side, how) = ways[case % ways.len()];
        let (reached, _, _) = survive(world, Point::named(&name, nth, side, how), None, 1)?;
        ensure!(reached || is_weather(&name), "`{name}` number {nth} was not reached");
        struck.fetch_add(usize::from(reached), Ordering::Relaxed);
        Ok(())
    });
    println!("{} effects, {} strikes", points.len(), struck.into_inner());
}

#[test]
fn windows_that_append_stand_a_silent_service_and_crashes_during_recovery() {
    let points = points_of(Scenario::Append);
    let silent: Vec<_> = points.iter().filter(|(name, _)| name.starts_with("BigQuery ")).collect();
    all_in(Scenario::Append, silent.len(), |world, case| {
        let (name, nth) = silent[case].clone();
        let (reached, _, _) = survive(world, Point::named(&name, nth, Side::After, How::Silence), None, 1)?;
        ensure!(reached || is_weather(&name), "`{name}` number {nth} was not reached");
        Ok(())
    });
    let (n, seed) = (points.len(), 20_261_122);
    let mut random = fastrand::Rng::with_seed(seed);
    let side = |random: &mut fastrand::Rng| if random.bool() { Side::Before } else { Side::After };
    let mut pair = || {
        let (a, x) = (random.usize(..n), side(&mut random));
        (a, x, random.usize(..(n - a).max(8)), side(&mut random))
    };
    let pairs: Vec<_> = (0..200).map(|_| pair()).collect();
    let struck = AtomicUsize::new(0);
    all_in(Scenario::Append, pairs.len(), |world, case| {
        let (a, x, b, y) = pairs[case];
        let (name, nth) = points[a].clone();
        let first = Point::named(&name, nth, x, How::Crash);
        let (one, two, _) = survive(world, first, Some(Point::nth(b, y, How::Crash)), 1 + case % 2)?;
        struck.fetch_add(usize::from(one && two), Ordering::Relaxed);
        Ok(())
    });
    let struck = struck.into_inner();
    println!("{} times fallen silent, {struck} pairs of crashes (seed {seed})", silent.len());
    assert!(silent.len() >= 6 && struck >= 150, "{silent:?}, {struck} pairs");
}

/// The outcome of everything that was sent stays unknown: that is no reason to clean up after it.
#[test]
fn a_service_that_falls_silent_after_any_call_loses_and_doubles_nothing() {
    let mut points = points();
    points.retain(|(name, _)| name.starts_with("BigQuery "));
    all_of(points.len(), |world, case| {
        let (name, nth) = points[case].clone();
        let (reached, _, _) = survive(world, Point::named(&name, nth, Side::After, How::Silence), None, 1)?;
        ensure!(reached || is_weather(&name), "`{name}` number {nth} was not reached");
        Ok(())
    });
    println!("{} times fallen silent", points.len());
    assert!(points.len() >= 6, "{points:?}");
}

#[test]
fn crashes_during_recovery_lose_and_double_nothing() {
    let points = points();
    let n = points.len();
    let asked = std::env::var("API2BQ_CRASH_PAIRS").unwrap_or_default();
    let seed = 20_261_121;
    let pairs: Vec<(usize, Side, usize, Side)> = match asked.as_str() {
        "all" => {
            let sides = [Side::Before, Side::After];
            let second = (0..n).flat_map(|b| sides.map(|side| (b, side)));
            let pairs = (0..n).flat_map(|a| sides.map(|side| (a, side)));
            pairs.flat_map(|(a, x)| second.clone().map(move |(b, y)| (a, x, b, y))).collect()
        }
        count => {
            let count = count.parse().unwrap_or(500);
            let mut random = fastrand::Rng::with_seed(seed);
            let side = |random: &mut fastrand::Rng| if random.bool() { Side::Before } else { Side::After };
            let mut pair = || {
                let a = random.usize(..n);
                let x = side(&mut random);
                // What is left to do after the first crash gets shorter the later it was.
                let b = random.usize(..(n - a).max(8));
                (a, x, b, side(&mut random))
            };
            // Some recoveries end before their second crash; those do not count.
            (0..count + count / 8).map(|_| pair()).collect()
        }
    };
    let struck = AtomicUsize::new(0);
    all_of(pairs.len(), |world, case| {
        let (a, x, b, y) = pairs[case];
        let (name, nth) = points[a].clone();
        let first = Point::named(&name, nth, x, How::Crash);
        let jobs = 1 + case % 2;
        let (one, two, _) = survive(world, first, Some(Point::nth(b, y, How::Crash)), jobs)?;
        struck.fetch_add(usize::from(one && two), Ordering::Relaxed);
        Ok(())
    });
    let struck = struck.into_inner();
    println!("{struck} pairs of crashes (seed {seed})");
    assert!(asked == "all" || struck >= asked.parse().unwrap_or(500), "only {struck} pairs");
}

#[test]
fn a_crash_of_promote_leaves_production_as_it_was_or_as_it_should_be() {
    let mut world = World::start(7);
    let staged = |world: &mut World| -> Stage {
        let stage = world.stage().expect("a stage");
        let ended = world.run(&stage, 1, &Arc::new(Reaper::watching())).expect("it starts");
        assert!(matches!(ended, Ended::Complete), "{ended:?}");
        stage
    };
    let record = |world: &mut World| {
        let (stage, reaper) = (staged(world), Arc::new(Reaper::watching()));
        let ended = world.promote(&stage, &reaper).expect("it starts");
        assert!(matches!(ended, Ended::Complete), "{ended:?}");
        reaper.counts()
    };
    let (one, two) = (record(&mut world), record(&mut world));
    let times = |name: &String| one[name].min(two.get(name).copied().unwrap_or(0));
    let both: Vec<_> = one.keys().flat_map(|name| (0..times(name)).map(move |nth| (name, nth))).collect();
    assert!(both.len() >= 6, "{both:?}");
    for (name, nth) in both {
        for (side, how) in [(Side::Before, How::Crash), (Side::After, How::Crash), (Side::After, How::Lose)] {
            let stage = staged(&mut world);
            let reaper = Arc::new(Reaper::waiting_for(Point::named(name, nth, side, how)));
            let told = format!("`{name}` number {nth} {side:?} {how:?}");
            world.promote(&stage, &reaper).expect(&told);
            assert!(reaper.has_struck() || is_weather(name), "{told} was not reached");
            let again = world.promote(&stage, &Arc::new(Reaper::watching())).expect(&told);
            assert!(matches!(again, Ended::Complete), "{told}: {again:?}");
        }
    }
}

/// Everything durable that a later step stands on is synced before that step.
#[test]
fn files_and_folders_are_synced_before_anything_stands_on_them() {
    let mut world = World::start(8);
    let reaper = Arc::new(Reaper::watching());
    let stage: Stage = world.stage().expect("a stage");
    world.run(&stage, 1, &reaper).expect("it starts");
    let trace = reaper.trace();
    let at = |what: &dyn Fn(&str) -> bool, from: usize| {
        trace.iter().skip(from).position(|e| what(e)).map(|p| p + from)
    };
    let mut checked = 0;
    for (linked, effect) in trace.iter().enumerate() {
        let Some(name) = effect.strip_prefix("Files link ") else { continue };
        let written = |e: &str| e == format!("Files write {name}") || e == format!("Files sync {name}");
        assert!(
            trace[..linked].iter().any(|e| written(e)),
            "`{name}` was linked before its bytes were synced"
        );
        let synced = at(&|e| e == format!("Files sync way to {name}"), linked).expect("its folder is synced");
        // The next effect beyond the staging area must come later.
        let outside = at(&|e| e.starts_with("BigQuery ") || e.starts_with("Source open"), linked);
        assert!(outside.is_none_or(|outside| synced < outside), "`{name}` was not durable when it was used");
        checked += 1;
    }
    assert!(checked > 9, "three windows with a file and two entries each, and the plan: {checked}");
}

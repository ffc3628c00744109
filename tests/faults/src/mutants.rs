//! Mistakes that the exploration has to find: each is made in a copy of the operator, and the exploration of that copy has to fail.
//!
//! Owns the list of mistakes and the copying. A mistake is a piece of the operator's text and what stands there instead; the piece has
//! to be there exactly once, so a mistake that no longer fits the operator is noticed by the ordinary tests.

use std::{fs, path::Path, process::Command, time::Instant};

/// A mistake.
#[derive(Clone, Copy, Debug)]
pub struct Mutant {
    /// What is wrong.
    pub name: &'static str,
    /// In which file, from `operator/src` on.
    pub file: &'static str,
    /// What stands there, and what the mistake makes of it.
    pub edits: &'static [(&'static str, &'static str)],
}

const fn mutant(name: &'static str, file: &'static str, edits: &'static [(&'static str, &'static str)]) -> Mutant {
    Mutant { name, file, edits }
}

/// Every mistake.
pub const MUTANTS: [Mutant; 23] = [
    mutant(
        "an object is written without the version that was observed (rule 2)",
        "apply.rs",
        &[(
            "desired.meta_mut().resource_version = Some(version.unwrap_or_else(|| ABSENT.into()));",
            "let _ = (version, ABSENT);",
        )],
    ),
    mutant(
        "the StatefulSet is written before what its pods refer to",
        "apply.rs",
        &[
            ("        self.ensure(config_map, &observed.config_maps, &caches.config_maps).await?;\n", ""),
            (
                "        self.ensure(stateful_set, observed.stateful_set.as_slice(), &caches.stateful_sets).await?;\n",
                "        self.ensure(stateful_set, observed.stateful_set.as_slice(), &caches.stateful_sets).await?;\n        self.ensure(config_map, &observed.config_maps, &caches.config_maps).await?;\n",
            ),
        ],
    ),
    mutant(
        "the client Service is written after the StatefulSet",
        "apply.rs",
        &[
            ("        self.ensure(client_service, &observed.services, &caches.services).await?;\n", ""),
            (
                "        self.ensure(stateful_set, observed.stateful_set.as_slice(), &caches.stateful_sets).await?;\n",
                "        self.ensure(stateful_set, observed.stateful_set.as_slice(), &caches.stateful_sets).await?;\n        self.ensure(client_service, &observed.services, &caches.services).await?;\n",
            ),
        ],
    ),
    mutant(
        "a ConfigMap is pruned though an old pod names it (rule 3)",
        "apply.rs",
        &[("map.name_any() == config || is_named(map, observed)", "map.name_any() == config")],
    ),
    mutant(
        "an object is written although it is so already",
        "apply.rs",
        &[(
            "            if is_so(&desired, observed) {",
            "            if is_so(&desired, observed) && name.is_empty() {",
        )],
    ),
    mutant(
        "a live object is not compared, only what was applied last",
        "apply.rs",
        &[(
            "            if is_so(&desired, observed) {",
            "            if is_so(&desired, observed) || desired.annotations().get(names::APPLIED) == observed.annotations().get(names::APPLIED) {",
        )],
    ),
    mutant(
        "an absence is written upon without saying so",
        "apply.rs",
        &[(
            "Some(version.unwrap_or_else(|| ABSENT.into()))",
            "version.or_else(|| Some(ABSENT.to_owned()).filter(|_| false))",
        )],
    ),
    mutant(
        "the status is written without the version that was read",
        "reconcile.rs",
        &[("serde_json::json!({\"resourceVersion\": resource.metadata.resource_version})", "serde_json::json!({})")],
    ),
    mutant(
        "several reconciles wait for the same cache by themselves",
        "controller.rs",
        &[(
            "filled.get_or_try_init(|| caches.ready()).await.is_ok()",
            "{ let _: &OnceCell<()> = &filled; caches.ready().await.is_ok() }",
        )],
    ),
    mutant(
        "an apply does not take fields back from others",
        "apply.rs",
        &[("PatchParams::apply(names::FIELD_MANAGER).force()", "PatchParams::apply(names::FIELD_MANAGER)")],
    ),
    mutant(
        "the new template is written without covering every pod (rule 1)",
        "rollout/slide.rs",
        &[("if holds(Rule::CoverTemplate)", "if !holds(Rule::CoverTemplate)")],
    ),
    mutant(
        "the status of a StatefulSet counts though it speaks of an older spec (rule 2)",
        "rollout/mod.rs",
        &[("if !set.fresh && rules::holds", "if set.update_revision.is_empty() && rules::holds")],
    ),
    mutant(
        "old nodes leave before the endpoints have settled (rule 5)",
        "rollout/slide.rs",
        &[("(settle(Rule::Settle), view.scene.policy.soak)", "(settle(Rule::Settle) * 0, view.scene.policy.soak * 0)")],
    ),
    mutant(
        "old nodes leave although too few would stay (rule 7)",
        "rollout/view.rs",
        &[("if !holds(Rule::KeepReady)", "if holds(Rule::KeepReady)")],
    ),
    mutant(
        "a slide takes one node more than it may (rule 7)",
        "rollout/view.rs",
        &[(
            "start: window.start + gone, replicas: window.replicas - gone",
            "start: window.start + gone + 1, replicas: window.replicas - gone",
        )],
    ),
    mutant(
        "the Service is led to the new revision before it has a node (rule 4)",
        "rollout/serving.rs",
        &[("let enough = new >= batch", "let enough = new >= 0")],
    ),
    mutant(
        "the Service is not pinned while two revisions run (rule 4)",
        "desired/client_service.rs",
        &[("selector.extend(serving.map(", "selector.extend(serving.filter(|_| false).map(")],
    ),
    mutant(
        "a failed reconcile waits for a change",
        "controller.rs",
        &[(
            "(Outcome::Failed, wait(BACKOFF_MIN, BACKOFF_MAX))",
            "(Outcome::Failed, { let _ = (BACKOFF_MIN, BACKOFF_MAX); Action::await_change() })",
        )],
    ),
    mutant(
        "an answer is waited for without end",
        "controller.rs",
        &[(
            "const RECONCILE_MAX: Duration = Duration::from_secs(45)",
            "const RECONCILE_MAX: Duration = Duration::from_secs(9_000)",
        )],
    ),
    mutant(
        "what was written is not read back",
        "cache.rs",
        &[("is_some_and(|written| !written.superseded.contains(&self.told.version))", "is_some_and(|_| true)")],
    ),
    mutant(
        "a ConfigMap is deleted though a StatefulSet that names it may still arrive",
        "apply.rs",
        &[(
            " || is_named(map, observed) || is_new(map, now);",
            " || is_named(map, observed) || is_new(map, now) && false;",
        )],
    ),
    mutant(
        "nobody looks again when a settle time is over",
        "reconcile.rs",
        &[(
            "Ok(Verdict::Done(Some(if proven { PROVEN } else { next_look(&decision, untold) })))",
            "{ let _ = (proven, next_look(&decision, untold), PROVEN); Ok(Verdict::Done(None)) }",
        )],
    ),
    mutant(
        "the status does not tell which generation it speaks of",
        "status/mod.rs",
        &[(
            "        observed_generation: inputs.resource.metadata.generation,\n        conditions",
            "        observed_generation: previous.observed_generation,\n        conditions",
        )],
    ),
];

impl Mutant {
    /// The operator's text with the mistake in it.
    ///
    /// # Errors
    /// When the mistake does not fit the text any more.
    pub fn make(&self, text: &str) -> Result<String, String> {
        self.edits.iter().try_fold(text.to_owned(), |text, (from, to)| match text.matches(from).count() {
            1 => Ok(text.replacen(from, to, 1)),
            count => Err(format!("{}: {from:?} is {count} times in {}: write the mutant anew", self.name, self.file)),
        })
    }

    /// Checks that the mistake fits the operator as it is.
    ///
    /// # Errors
    /// When it does not.
    pub fn fits(&self) -> Result<(), String> {
        let path = tree::root().join("operator/src").join(self.file);
        let text = fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        self.make(&text).map(drop)
    }
}

/// Makes each mistake whose name contains `filter` in a copy of the tree at `copy`, and explores it. Tells what caught it.
///
/// # Errors
/// When a mistake was not caught, or a copy does not build.
pub fn hunt(copy: &Path, filter: &str) -> Result<(), String> {
    let said = |error: std::io::Error| format!("{}: {error}", copy.display());
    let tracked = Command::new("git").args(["ls-files", "-z"]).current_dir(tree::root()).output().map_err(said)?;
    for path in String::from_utf8_lossy(&tracked.stdout).split_terminator('\0') {
        copied(&tree::root().join(path), &copy.join(path)).map_err(said)?;
    }
    let mut escaped = Vec::new();
    let hunted: Vec<_> = MUTANTS.iter().filter(|mutant| mutant.name.contains(filter)).collect();
    for mutant in &hunted {
        let path = copy.join("operator/src").join(mutant.file);
        let sound = fs::read_to_string(&path).map_err(said)?;
        fs::write(&path, mutant.make(&sound)?).map_err(said)?;
        let began = Instant::now();
        let caught = explored(copy);
        fs::write(&path, sound).map_err(said)?;
        let seconds = began.elapsed().as_secs();
        match caught? {
            Some(by) => println!("caught   {:<82} {seconds:>4} s  {by}", mutant.name),
            None => {
                println!("ESCAPED  {:<82} {seconds:>4} s", mutant.name);
                escaped.push(mutant.name);
            }
        }
    }
    if !escaped.is_empty() {
        return Err(format!("{} of {} mutants escaped", escaped.len(), hunted.len()));
    }
    println!("{} mutants, all caught", hunted.len());
    Ok(())
}

/// Copies a file unless it is there already as it is, so that little is built again.
fn copied(from: &Path, to: &Path) -> std::io::Result<()> {
    let content = match fs::read(from) {
        Ok(content) => content,
        // Deleted and not yet committed.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    if fs::read(to).is_ok_and(|there| there == content) {
        return Ok(());
    }
    fs::create_dir_all(to.parent().unwrap_or(to))?;
    fs::write(to, content)
}

/// Explores the copy until something breaks; tells what did.
fn explored(copy: &Path) -> Result<Option<String>, String> {
    let build =
        Command::new("cargo").args(["build", "-q", "-p", "faults", "--bin", "faults"]).current_dir(copy).output();
    let build = build.map_err(|error| error.to_string())?;
    if !build.status.success() {
        return Err(format!("a mutant does not build: {}", String::from_utf8_lossy(&build.stderr)));
    }
    let run = Command::new("cargo")
        .args(["run", "-q", "-p", "faults", "--bin", "faults", "--", "hunted"])
        .current_dir(copy)
        .output();
    let run = run.map_err(|error| error.to_string())?;
    // The first failure: its breaches, and the schedule.
    let told = String::from_utf8_lossy(&run.stdout);
    let breach = told.lines().next().unwrap_or("nothing was told").trim_start();
    let schedule = told.lines().find_map(|line| line.split_once("-- replay ")).map_or("", |(_, schedule)| schedule);
    Ok((!run.status.success()).then(|| format!("{schedule}: {}", breach.chars().take(100).collect::<String>())))
}

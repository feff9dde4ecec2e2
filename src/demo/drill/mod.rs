//! `authferry demo --drill`: 200 simulated people and 5 machines, a third of them at each of three applications, go through all six
//! stages of a rollout in about a minute.
//! In the ramp the new provider breaks; the proxy sends people back by itself, and the rollout goes on after the repair.
//!
//! Nothing is counted by the proxy: the closing table is made from what the browsers, the machines and the old application
//! have seen. Guards are as shipped; only time is scaled.

mod actors;
mod crowd;
mod fault;
mod observe;
mod table;
mod world;

use std::fs;
use std::fs::File;
use std::io;
use std::io::BufReader;
use std::io::IsTerminal as _;
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use http::Method;
use serde_json::Value;
use serde_json::json;
use tokio::time::Instant;
use tokio::time::sleep;

use crate::admin;
use crate::clock::ScaledClock;
use crate::demo::DemoError;
use crate::demo::drill::crowd::Crowd;
use crate::demo::drill::fault::Fault;
use crate::demo::drill::observe::Observer;
use crate::demo::drill::observe::Seen;
use crate::demo::drill::table::MACHINES;
use crate::demo::drill::table::Table;
use crate::demo::drill::world::APPS;
use crate::demo::drill::world::World;

/// A second is 300 s.
const FACTOR: u32 = 300;
/// While everybody sleeps off the cooldown of a day.
const NIGHT: u32 = 40_000;
/// How often the rollout is looked at: every 6 s of the drill.
const TICK: Duration = Duration::from_millis(20);
/// Somebody comes to their desk this often: every 12 s of the drill, in which time stands still while they ask for something.
const PACE: Duration = Duration::from_millis(40);
/// Nothing in the drill takes as long as this.
const PATIENCE: Duration = Duration::from_secs(180);

/// How the drill is run.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    /// Run the drill: all stages of a rollout in about a minute, with one fault
    #[arg(long)]
    pub(crate) drill: bool,
    /// Write everything that was seen to this directory: `observations.jsonl`, one JSON object a line
    #[arg(long, value_name = "DIR", requires = "drill")]
    pub(crate) out: Option<PathBuf>,
    /// In which order people come
    #[arg(long, value_name = "N", default_value_t = 1, requires = "drill")]
    pub(crate) seed: u64,
    /// What goes wrong in the ramp
    #[arg(
        long,
        value_name = "FAULT",
        default_value = "secret",
        requires = "drill"
    )]
    pub(crate) fault: Fault,
    /// Let the guards take notes only, to see what they are for
    #[arg(long, requires = "drill")]
    pub(crate) without_rollback: bool,
}

/// Runs the drill. `true`: every promise was kept.
///
/// # Errors
///
/// When it cannot be run to its end.
pub(crate) async fn run(args: &Args, out: &mut (dyn Write + Send)) -> Result<bool, DemoError> {
    let clock = ScaledClock::new(FACTOR);
    let observer = Arc::new(Observer::new(Arc::new(clock.clone())));
    let world = World::start(&clock, &observer, args.without_rollback).await?;
    writeln!(
        out,
        "200 people, {MACHINES} machines, {} applications, 6 stages. Time is scaled by {FACTOR}, at night by {NIGHT}; it stands still while somebody asks for something.",
        APPS.len()
    )?;
    writeln!(
        out,
        "Guards: {}.",
        if args.without_rollback {
            "they only take notes, and nothing bounds the harm"
        } else {
            "as shipped, nothing is set"
        }
    )?;
    let crowd = Crowd::gather(&world, &observer, &clock, args.seed);
    let mut play = Play {
        world,
        crowd,
        observer,
        clock,
        began: Instant::now(),
        told: String::new(),
        terminal: io::stdout().is_terminal(),
        out,
    };
    let played = play.play(args.fault, args.without_rollback).await;
    play.crowd.disperse();
    if let Err(error) = &played {
        writeln!(play.out, "the drill broke off: {error}")?;
    }
    let kept = play.close(args)?;
    play.world.running.stop().await;
    Ok(kept && played.is_ok())
}

/// The drill under way.
struct Play<'a> {
    world: World,
    crowd: Crowd,
    observer: Arc<Observer>,
    clock: ScaledClock,
    began: Instant,
    told: String,
    terminal: bool,
    out: &'a mut (dyn Write + Send),
}

impl Play<'_> {
    async fn play(&mut self, fault: Fault, without_rollback: bool) -> Result<(), String> {
        // A day before anything: everybody has signed in once at the old provider.
        self.until("everybody is at work", |play| play.signed_in() == 200)
            .await?;
        self.order("start", None).await?;
        for stage in ["2-internal", "3-testers", "4-ramp/5"] {
            self.until_ready().await?;
            self.order("promote", None).await?;
            self.until_at(stage).await?;
        }
        self.until_at("4-ramp/25").await?;
        // Some sign in well at this step before it breaks.
        self.until("eight more have moved", |play| 8 <= play.moved_in_step())
            .await?;
        self.say(&format!("!! {}", fault.words()))?;
        fault.breaks(&self.world, &self.observer, true);
        if without_rollback {
            self.until("everybody has come once", |play| {
                200 <= play.come_since_fault()
            })
            .await?;
        } else {
            self.until("the rollout goes back by itself", |play| {
                play.state() == "rolled_back"
            })
            .await?;
            let harmed = self.observer.with(Table::of).harmed;
            self.say(&format!("   back by itself; {harmed} people were harmed"))?;
        }
        fault.breaks(&self.world, &self.observer, false);
        if without_rollback {
            let harmed = self.observer.with(Table::of).harmed;
            self.say(&format!(
                "   nothing went back; {harmed} people were harmed. Repaired: somebody pauses it, and lets it go on"
            ))?;
            // Its guard has tripped in this step, and stays so: what was seen before the repair is left behind by hand.
            if self.state() == "baking" {
                self.order("pause", None).await?;
            }
            self.order("resume", None).await?;
        } else {
            self.say(
                "   repaired. A night passes: whoever goes back by itself cools down for a day",
            )?;
            self.crowd.home(true).await;
            self.clock.set(NIGHT);
            sleep(Duration::from_secs(86_400) / NIGHT + Duration::from_millis(300)).await;
            self.clock.set(FACTOR);
            self.crowd.home(false).await;
            self.order("resume", None).await?;
            self.until_at("4-ramp/25").await?;
        }
        // Where nothing bounds the harm, it may have gone on before anybody saw what was wrong.
        for step in ["4-ramp/98", "5-modern-primary"] {
            self.until(step, |play| play.was_at(step)).await?;
        }
        self.until_ready().await?;
        // The old sessions run out by themselves: nobody is signed out.
        let begun = Instant::now();
        while 0 < self.crowd.held_at_old().await || self.machines_at_old() {
            self.look().await?;
            if PATIENCE < begun.elapsed() {
                return Err(String::from("old sessions do not end"));
            }
        }
        self.order("promote", None).await?;
        self.until_at("6-modern-only").await?;
        self.until("it is completed", |play| play.state() == "completed")
            .await
    }

    /// How many people have signed in at all.
    fn signed_in(&self) -> usize {
        self.observer.with(|all| {
            let people: std::collections::BTreeSet<_> = all
                .iter()
                .filter(|seen| matches!(seen.seen, Seen::SignIn { ok: true, .. }))
                .map(|seen| &*seen.who)
                .collect();
            people.len()
        })
    }

    /// How many sign-ins at the new provider have succeeded since the last step.
    fn moved_in_step(&self) -> usize {
        self.observer.with(|all| {
            let step = |seen: &&observe::Observation| !matches!(seen.seen, Seen::Step { .. });
            let new = |seen: &&observe::Observation| {
                matches!(&seen.seen, Seen::SignIn { provider, ok: true, .. } if provider == "new")
            };
            all.iter().rev().take_while(step).filter(new).count()
        })
    }

    /// How often somebody has tried to sign in since the last fault began.
    fn come_since_fault(&self) -> usize {
        self.observer.with(|all| {
            let fault =
                |seen: &&observe::Observation| matches!(seen.seen, Seen::Fault { on: true, .. });
            let came = |seen: &&observe::Observation| matches!(seen.seen, Seen::SignIn { .. });
            let since = all.iter().rev().take_while(|seen| !fault(seen));
            since.filter(came).count()
        })
    }

    fn machines_at_old(&self) -> bool {
        self.observer.with(Table::of).machines_moved < MACHINES
    }

    fn last_step(&self) -> (String, String) {
        self.observer.with(|all| {
            let mut steps = all.iter().rev().filter_map(|seen| match &seen.seen {
                Seen::Step { step, state, .. } => Some((step.clone(), state.clone())),
                _ => None,
            });
            steps.next().unwrap_or_default()
        })
    }

    fn was_at(&self, wanted: &str) -> bool {
        self.observer.with(|all| {
            let at = |seen: &observe::Observation| matches!(&seen.seen, Seen::Step { step, .. } if step == wanted);
            all.iter().any(at)
        })
    }

    fn state(&self) -> String {
        self.last_step().1
    }

    async fn until(&mut self, what: &str, done: impl Fn(&Self) -> bool) -> Result<(), String> {
        let begun = Instant::now();
        while !done(self) {
            self.look().await?;
            if PATIENCE < begun.elapsed() {
                return Err(format!("waited in vain until {what}"));
            }
        }
        Ok(())
    }

    async fn until_at(&mut self, step: &str) -> Result<(), String> {
        self.until(step, |play| play.last_step().0 == step).await
    }

    async fn until_ready(&mut self) -> Result<(), String> {
        let begun = Instant::now();
        loop {
            let view = self.look().await?;
            if view.get("ready") == Some(&Value::Bool(true)) {
                return Ok(());
            }
            if PATIENCE < begun.elapsed() {
                return Err(String::from("the step does not get ready"));
            }
        }
    }

    /// Asks how it stands, as an operator does, and tells what is new.
    async fn look(&mut self) -> Result<Value, String> {
        sleep(Duration::from_millis(100)).await;
        let socket = self.world.socket();
        let asked = admin::ask(&socket, Method::GET, "/admin/v1/rollouts", None).await;
        let (_, all) = asked.map_err(|error| error.to_string())?;
        let view = all.get(0).cloned().unwrap_or_default();
        let text = |name: &str| view.get(name).and_then(Value::as_str).unwrap_or_default();
        let (step, state) = (text("step").to_owned(), text("state").to_owned());
        if self.last_step() != (step.clone(), state.clone()) {
            let why = text("why").to_owned();
            let line = format!("{step:<18}{state:<12}{why}");
            self.observer.saw("drill", Seen::Step { step, state, why });
            self.say(&line)?;
        }
        self.progress(&view)?;
        Ok(view)
    }

    /// Gives an order, as an operator does.
    async fn order(&mut self, command: &str, stage: Option<&str>) -> Result<(), String> {
        let body = json!({ "rollout": "drill", "command": command, "stage": stage, "reason": "the drill" });
        let socket = self.world.socket();
        let asked = admin::ask(&socket, Method::POST, "/admin/v1/rollouts", Some(&body)).await;
        let (status, answer) = asked.map_err(|error| error.to_string())?;
        if status.is_success() {
            self.look().await.map(drop)
        } else {
            Err(format!("{command}: {answer}"))
        }
    }

    /// A line that stays.
    fn say(&mut self, line: &str) -> Result<(), String> {
        let at = self.began.elapsed().as_secs_f64();
        let clear = if self.terminal { "\r\x1b[K" } else { "" };
        writeln!(self.out, "{clear}{at:>5.1} s  {line}").map_err(|error| error.to_string())
    }

    /// On a terminal, a line that changes: who is where, and what the guard says.
    fn progress(&mut self, view: &Value) -> Result<(), String> {
        if !self.terminal {
            return Ok(());
        }
        let table = self.observer.with(Table::of);
        let guard = view.pointer("/guards/0");
        let number = |name: &str| {
            guard
                .and_then(|guard| guard.get(name))
                .and_then(Value::as_f64)
                .unwrap_or_default()
        };
        let line = format!(
            "        {:>3} people moved   harmed {:>2}   unexpected sign-ins {}   evidence {:>6.2} of {:.2}",
            table.people_moved,
            table.harmed,
            table.unexpected_sign_ins,
            number("log_e"),
            number("trip_at"),
        );
        if line != self.told {
            write!(self.out, "\r\x1b[K{line}")
                .and_then(|()| self.out.flush())
                .map_err(|error| error.to_string())?;
            self.told = line;
        }
        Ok(())
    }

    /// Verifies the ledger, writes what was seen, and shows the table.
    fn close(&mut self, args: &Args) -> Result<bool, DemoError> {
        let ledger = File::open(self.world.ledger())?;
        let found = crate::ledger::verify(BufReader::new(ledger), None)?;
        let (ok, records) = (found.broken.is_none() && found.torn == 0, found.head.seq);
        self.observer.saw("drill", Seen::Ledger { ok, records });
        let all = self.observer.all();
        if let Some(directory) = &args.out {
            fs::create_dir_all(directory)?;
            let mut file = io::BufWriter::new(File::create(directory.join("observations.jsonl"))?);
            for observation in &all {
                let line = serde_json::to_string(observation).map_err(io::Error::other)?;
                writeln!(file, "{line}")?;
            }
            file.flush()?;
            fs::copy(self.world.ledger(), directory.join("decisions.jsonl"))?;
        }
        let clear = if self.terminal { "\r\x1b[K" } else { "" };
        writeln!(self.out, "{clear}")?;
        let mut kept = true;
        for (line, good) in Table::of(&all).lines() {
            kept &= good;
            let mark = if good { "" } else { "     <- not as promised" };
            writeln!(self.out, "{line}{mark}")?;
        }
        let took = self.began.elapsed().as_secs_f64();
        writeln!(self.out, "{:<40}{took:.0} s", "took")?;
        Ok(kept)
    }
}

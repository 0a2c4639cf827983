//! How far it is, on standard error: bars on a terminal, plain lines elsewhere, nothing where only an id was asked for.

use std::collections::{BTreeSet, HashMap};
use std::io::IsTerminal;
use std::time::Duration;

use goat_proto::v1::Task;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use super::view::{Slot, Stage, View};
use crate::exit::say;

/// More slots than this are only counted.
const MAX_BARS: usize = 20;
const TICK: Duration = Duration::from_millis(120);
/// Steps of a slot's bar: pending, assigned, preparing, starting, running.
const STEPS: u64 = 4;

/// Shows looks; what has not changed is not shown again.
#[derive(Debug)]
pub struct Display {
    screen: Screen,
}

#[derive(Debug)]
enum Screen {
    Nothing,
    Lines(Lines),
    Bars(Bars),
}

#[derive(Debug, Default)]
struct Lines {
    last: String,
    /// Problems that were told, each once.
    told: BTreeSet<String>,
}

#[derive(Debug, Default)]
struct Bars {
    all: MultiProgress,
    overall: Option<ProgressBar>,
    slots: HashMap<u32, ProgressBar>,
}

impl Display {
    pub fn new(quiet: bool) -> Self {
        let screen = match std::io::stderr().is_terminal() {
            _ if quiet => Screen::Nothing,
            true => Screen::Bars(Bars::default()),
            false => Screen::Lines(Lines::default()),
        };
        Self { screen }
    }

    /// A service on its way.
    pub fn service(&mut self, view: &View) {
        match &mut self.screen {
            Screen::Nothing => {}
            Screen::Lines(lines) => lines.service(view),
            Screen::Bars(bars) => bars.service(view),
        }
    }

    /// What is left of a service, or on a node.
    pub fn remaining(&mut self, name: &str, tasks: &[Task], to_do: &str) {
        let text = format!("{} {to_do}", tasks.len());
        match &mut self.screen {
            Screen::Nothing => {}
            Screen::Lines(lines) => lines.line(format!("{name}: {text}")),
            Screen::Bars(bars) => bars.spinner(name, text),
        }
    }

    /// Takes the bars away: what comes after says how it ended.
    pub fn finish(&mut self) {
        if let Screen::Bars(bars) = &self.screen {
            let bars_of = bars.slots.values().chain(&bars.overall);
            bars_of.for_each(ProgressBar::finish_and_clear);
            // Only the terminal is at stake, and it may be gone.
            let _ = bars.all.clear();
        }
    }
}

impl Lines {
    fn line(&mut self, line: String) {
        if line != self.last {
            say(&line);
            self.last = line;
        }
    }

    fn service(&mut self, view: &View) {
        self.line(format!("{}: {}", view.name, view.summary()));
        for slot in view.slots.iter().filter(|slot| !slot.problem.is_empty()).take(MAX_BARS) {
            let line = format!("  {}.{}: {}", view.name, slot.number, slot.problem);
            if self.told.insert(line.clone()) {
                say(&line);
            }
        }
    }
}

impl Bars {
    fn overall(&mut self, template: &str) -> &ProgressBar {
        let all = &self.all;
        self.overall.get_or_insert_with(|| {
            let bar = all.insert(0, ProgressBar::new(0));
            bar.set_style(style(template));
            bar.enable_steady_tick(TICK);
            bar
        })
    }

    fn spinner(&mut self, name: &str, text: String) {
        let bar = self.overall("{spinner} {prefix}: {msg}");
        bar.set_prefix(name.to_owned());
        bar.set_message(text);
    }

    fn service(&mut self, view: &View) {
        let bar = self.overall("{spinner} {prefix} [{bar:30}] {msg}");
        bar.set_prefix(view.name.clone());
        bar.set_length(u64::from(view.desired).max(1));
        bar.set_position(view.settled() as u64);
        bar.set_message(view.summary());
        if view.slots.len() > MAX_BARS {
            return;
        }
        self.slots.retain(|number, bar| {
            let is_there = view.slots.iter().any(|slot| slot.number == *number);
            if !is_there {
                bar.finish_and_clear();
            }
            is_there
        });
        for slot in &view.slots {
            let all = &self.all;
            let bar = self.slots.entry(slot.number).or_insert_with(|| {
                let bar = all.insert(slot.number as usize, ProgressBar::new(STEPS));
                bar.set_style(style("  {prefix:>12} [{bar:8}] {wide_msg}"));
                bar.set_prefix(format!("{}.{}", view.name, slot.number));
                bar
            });
            bar.set_position(step(slot));
            bar.set_message(slot_text(slot));
        }
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template)
        .expect("the templates are constants")
        .progress_chars("=> ")
}

fn step(slot: &Slot) -> u64 {
    match (slot.stage, slot.state.as_str()) {
        (Stage::Running | Stage::Done, _) => STEPS,
        (_, "starting") => 3,
        (_, "preparing") => 2,
        (_, "assigned") => 1,
        _ => 0,
    }
}

fn slot_text(slot: &Slot) -> String {
    let mut text = slot.state.clone();
    if slot.stage == Stage::Outdated {
        text.push_str(" (to be replaced)");
    }
    if !slot.node.is_empty() {
        text.push_str(&format!(" on {}", slot.node));
    }
    if !slot.problem.is_empty() {
        text.push_str(&format!(": {}", slot.problem.replace('\n', " ")));
    }
    text
}

//! How far it is, on standard error: bars on a terminal, plain lines elsewhere, nothing where only an id was asked for.

use std::collections::{BTreeSet, HashMap};
use std::io::IsTerminal;
use std::time::Duration;

use goat_proto::v1::Task;
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

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

    /// What is left of those that were on a node, and what each waits for.
    pub fn leaving(&mut self, name: &str, tasks: &[Task], total: usize) {
        let text = format!("{} of {total} tasks left", tasks.len());
        let mut waits = tasks
            .iter()
            .filter(|task| !task.waits_for.is_empty())
            .take(MAX_BARS)
            .map(|task| format!("{}.{} waits for {}", task.service, task.slot, task.waits_for));
        match &mut self.screen {
            Screen::Nothing => {}
            Screen::Lines(lines) => {
                lines.line(format!("{name}: {text}"));
                waits.for_each(|line| lines.once(format!("  {line}"), String::clone));
            }
            Screen::Bars(bars) => {
                let first = waits.next().map(|first| format!("; {first}")).unwrap_or_default();
                bars.spinner(name, text + &first);
            }
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

    /// Tasks that fail over and over bring the same states again, and texts that differ in ids, times and counts only.
    fn service(&mut self, view: &View) {
        self.once(format!("{}: {}", view.name, text(view)), String::clone);
        for slot in view.slots.iter().filter(|slot| !slot.problem.is_empty()).take(MAX_BARS) {
            let name = format!("{}.{}", view.name, slot.number);
            let times = if slot.failures > 1 { format!(" (failed {} times)", slot.failures) } else { String::new() };
            let key = format!("{name}: {}{times}", gist(&slot.problem));
            self.once(format!("  {name}: {}{times}", slot.problem), |_| key);
        }
    }

    /// Prints a line unless one with the same key was printed before.
    fn once(&mut self, line: String, key: impl FnOnce(&String) -> String) {
        if self.told.insert(key(&line)) {
            say(&line);
        }
    }
}

impl Bars {
    /// The line above all others. It is whole before it is first drawn.
    fn overall(&mut self, template: &str, name: &str, text: String, (done, of): (u64, u64)) {
        if let Some(bar) = &self.overall {
            bar.set_length(of);
            bar.set_position(done);
            bar.set_message(text);
            return;
        }
        let bar = hidden(of).with_style(style(template)).with_prefix(name.to_owned());
        let bar = self.all.insert(0, bar.with_message(text).with_position(done));
        bar.enable_steady_tick(TICK);
        self.overall = Some(bar);
    }

    fn spinner(&mut self, name: &str, text: String) {
        self.overall("{spinner} {prefix}: {msg}", name, text, (0, 1));
    }

    fn service(&mut self, view: &View) {
        let counts = (view.settled() as u64, u64::from(view.desired).max(1));
        self.overall("{spinner} {prefix} [{bar:30}] {msg}", &view.name, text(view), counts);
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
            match self.slots.get(&slot.number) {
                Some(bar) => {
                    bar.set_position(step(slot));
                    bar.set_message(slot_text(slot));
                }
                None => {
                    let bar = hidden(STEPS).with_style(style("  {prefix:>12} [{bar:8}] {wide_msg}"));
                    let bar = bar.with_prefix(format!("{}.{}", view.name, slot.number));
                    let bar = bar.with_message(slot_text(slot)).with_position(step(slot));
                    self.slots.insert(slot.number, self.all.insert(slot.number as usize, bar));
                }
            }
        }
    }
}

fn text(view: &View) -> String {
    view.summary() + if view.is_watched { "; watching whether they stay up" } else { "" }
}

/// The text of a problem without the parts that change from one time to the next: numbers, and words with a number in them, such as
/// ids, times and ports.
fn gist(problem: &str) -> String {
    let is_word = |c: char| c.is_alphanumeric() || matches!(c, '-' | '_' | '.' | ':');
    let has_number = |word: &str| word.bytes().any(|byte| byte.is_ascii_digit());
    let mut gist = String::new();
    for part in problem.split_inclusive(|c: char| !is_word(c)) {
        let word = part.trim_end_matches(|c: char| !is_word(c));
        gist.push_str(if has_number(word) { "#" } else { word });
        gist.push_str(&part[word.len()..]);
    }
    gist
}

fn hidden(length: u64) -> ProgressBar {
    ProgressBar::with_draw_target(Some(length), ProgressDrawTarget::hidden())
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).expect("the templates are constants").progress_chars("=> ")
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
    match slot.stage {
        Stage::Outdated => text.push_str(" (to be replaced)"),
        Stage::Misplaced => text.push_str(" (to be moved)"),
        _ => {}
    }
    if !slot.node.is_empty() {
        text.push_str(&format!(" on {}", slot.node));
    }
    if !slot.problem.is_empty() {
        text.push_str(&format!(": {}", slot.problem.replace('\n', " ")));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_that_differ_in_ids_and_numbers_only_are_the_same() {
        let text = |id: &str, port: u16| {
            format!("start-failed: cannot create task {id}: port {port} of pid:{port} is taken (exit code 1)")
        };
        assert_eq!(gist(&text("9f86d081884c7d65", 8080)), gist(&text("60303ae22b998861", 8081)));
        assert_ne!(gist("exit code 1"), gist("image-not-found: no such image"));
        assert_eq!(gist("é 1 ü"), "é # ü");
    }
}

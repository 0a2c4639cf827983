//! What is done to links and disks while the cluster runs.

use std::time::Duration;

use super::Cluster;
use crate::error::Error;
use crate::layout::{self, Layout, Member};
use crate::links::Rule;
use crate::options::Options;
use crate::shape::Shape;
use crate::slow_disk;

const PRELOAD: &str = "LD_PRELOAD";

/// Lets every manager load the library that slows disks down, if that was asked for.
pub(super) fn prepare_disks(layout: &Layout, options: &mut Options) -> Result<(), Error> {
    if !options.slow_disks {
        return Ok(());
    }
    for n in 1..=layout.managers {
        let manager = Member::Manager(n);
        let env = options.env.entry(manager.name()).or_default();
        let preloaded = env.iter().position(|(name, _)| name == PRELOAD).map(|at| env.remove(at).1);
        env.extend(slow_disk::prepare(layout, &options.binaries, manager, preloaded.as_deref())?);
    }
    Ok(())
}

impl Cluster {
    /// Cuts the link between two members, or only what goes from the first to the second.
    pub fn cut(&self, from: &str, to: &str, one_way: bool) -> Result<(), Error> {
        self.set_rule(from, to, one_way, Some(Rule::Cut))
    }

    /// Delays what goes from one member to another, and back unless `one_way`.
    pub fn delay(&self, from: &str, to: &str, one_way: bool, delay: Duration) -> Result<(), Error> {
        self.shape(from, to, one_way, Shape::delayed(delay))
    }

    /// Shapes what goes from one member to another, and back unless `one_way`.
    pub fn shape(&self, from: &str, to: &str, one_way: bool, shape: Shape) -> Result<(), Error> {
        self.set_rule(from, to, one_way, (!shape.is_none()).then_some(Rule::Shape(shape)))
    }

    fn set_rule(&self, from: &str, to: &str, one_way: bool, rule: Option<Rule>) -> Result<(), Error> {
        if self.layout.is_direct {
            return Err(Error::usage("this cluster was started for measurements, without links that can be cut"));
        }
        let known = |name: &str| {
            if name == layout::CLIENT { Ok(None) } else { self.layout.find(name).map(Some) }
        };
        let ends = [known(from)?, known(to)?];
        if from == to || ends.iter().all(Option::is_none) {
            return Err(Error::usage(format!(
                "there is no link between {from} and {to}: give two members, or one and client"
            )));
        }
        self.links.set(from, to, rule);
        if !one_way {
            self.links.set(to, from, rule);
        }
        Ok(())
    }

    /// Makes every fsync of a manager take longer from now on; zero ends it.
    pub fn slow_disk(&self, name: &str, delay: Duration) -> Result<(), Error> {
        let manager = self.layout.find(name)?;
        if !matches!(manager, Member::Manager(_)) {
            return Err(Error::usage(format!("{name} is a worker; only the disks of managers can be slowed down")));
        }
        if !self.options.slow_disks {
            return Err(Error::usage(
                "this cluster was started without slow disks; start it again with `testcluster up --slow-disks`",
            ));
        }
        slow_disk::set(&self.layout, manager, delay)
    }

    /// Ends all cuts, shapes and slow disks.
    pub fn heal(&self) -> Result<(), Error> {
        self.links.heal();
        if self.options.slow_disks {
            for n in 1..=self.layout.managers {
                slow_disk::set(&self.layout, Member::Manager(n), Duration::ZERO)?;
            }
        }
        Ok(())
    }

    /// Managers whose disks are slow, readable: `m1: 90 ms`.
    pub fn slow_disks(&self) -> Vec<String> {
        if !self.options.slow_disks {
            return Vec::new();
        }
        let managers = (1..=self.layout.managers).map(Member::Manager);
        let slow = managers.filter_map(|manager| {
            let delay = slow_disk::get(&self.layout, manager).filter(|delay| !delay.is_zero())?;
            Some(format!("{}: {} ms", manager.name(), delay.as_secs_f64() * 1e3))
        });
        slow.collect()
    }

    /// Everything that is slow or cut, readable.
    pub fn disturbances(&self) -> Vec<String> {
        let links = self.links.describe().into_iter().map(|link| format!("link  {link}"));
        links.chain(self.slow_disks().into_iter().map(|disk| format!("disk  {disk}"))).collect()
    }
}

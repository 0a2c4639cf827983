//! Lists that come in several pages.

use crate::fake::{TASKS_A_PAGE, World, task};
use crate::run::goatctl;
use crate::server::Manager;

#[tokio::test(flavor = "multi_thread")]
async fn a_list_is_whole_however_many_pages_it_comes_in() {
    let world = World::new();
    let wanted = 2 * TASKS_A_PAGE + 1;
    world.change(|state| {
        state.tasks = (1..=wanted as u32).map(|slot| task("web", "service00001", slot, slot.into())).collect();
    });
    let manager = Manager::start(&world);
    assert_eq!(goatctl(&manager.address, "task ls -q").await.lines().len(), wanted);
}

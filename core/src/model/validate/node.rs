//! Limits of what a worker says of itself. The worker checks its own configuration against them, and the dispatcher
//! checks each hello and inventory. Nothing here is checked in `apply`: rows of earlier versions may be larger.

use std::collections::BTreeMap;

use super::{Invalid, ensure};
use crate::model::{ImageInfo, Inventory, MAX_NODE_TASKS};

/// Labels of one node.
pub const MAX_LABELS: usize = 64;
/// A label's name.
pub const MAX_LABEL_KEY_BYTES: usize = 128;
/// A label's value.
pub const MAX_LABEL_VALUE_BYTES: usize = 256;
/// `HOST:PORT`: the longest host name of DNS, a colon, five digits, and room for brackets.
pub const MAX_ADDRESS_BYTES: usize = 263;
/// The agent's version.
pub const MAX_VERSION_BYTES: usize = 64;
/// Conditions, and drivers.
pub const MAX_WORDS: usize = 16;
/// One condition, one driver's name.
pub const MAX_WORD_BYTES: usize = 64;
/// Images that a node tells, as in Kubernetes: the largest.
pub const MAX_IMAGES: usize = 50;
/// An image's reference, with its digest.
pub const MAX_IMAGE_REFERENCE_BYTES: usize = 512;

fn at_most(field: &'static str, what: &str, bytes: usize, max_bytes: usize) -> Result<(), Invalid> {
    ensure(bytes <= max_bytes, field, || {
        format!("{what} has {bytes} bytes, over the limit of {max_bytes}; shorten it in the worker's configuration")
    })
}

/// Checks a node's labels.
///
/// # Errors
/// [`Invalid`], which names the label.
pub fn validate_labels(labels: &BTreeMap<String, String>) -> Result<(), Invalid> {
    let count = labels.len();
    ensure(count <= MAX_LABELS, "labels", || {
        format!("{count} labels are over the limit of {MAX_LABELS}; remove some from the worker's configuration")
    })?;
    for (key, value) in labels {
        ensure(!key.is_empty(), "labels", || "a label needs a name".into())?;
        let shown: String = key.chars().take(40).collect();
        at_most("labels", &format!("the name {shown:?}"), key.len(), MAX_LABEL_KEY_BYTES)?;
        at_most("labels", &format!("the value of {shown:?}"), value.len(), MAX_LABEL_VALUE_BYTES)?;
    }
    Ok(())
}

/// Checks an address that a worker gives to others.
///
/// # Errors
/// [`Invalid`]
pub fn validate_address(field: &'static str, address: &str) -> Result<(), Invalid> {
    at_most(field, "the address", address.len(), MAX_ADDRESS_BYTES)
}

/// Checks a configured limit on tasks.
///
/// # Errors
/// [`Invalid`]
pub fn validate_max_tasks(max_tasks: u32) -> Result<(), Invalid> {
    ensure((1..=MAX_NODE_TASKS).contains(&max_tasks), "max_tasks", || {
        format!("{max_tasks} is not between 1 and {MAX_NODE_TASKS}, the most tasks that one node can have")
    })
}

/// Checks an inventory whose images were bounded by [`largest_images`] before.
///
/// # Errors
/// [`Invalid`]
pub fn validate_inventory(inventory: &Inventory) -> Result<(), Invalid> {
    at_most("inventory.agent_version", "the version", inventory.agent_version.len(), MAX_VERSION_BYTES)?;
    validate_address("inventory.agent_address", &inventory.agent_address)?;
    let conditions = inventory.conditions.len();
    ensure(conditions <= MAX_WORDS, "inventory.conditions", || {
        format!("{conditions} conditions are over the limit of {MAX_WORDS}; this is a fault of the worker")
    })?;
    for condition in &inventory.conditions {
        at_most("inventory.conditions", "a condition", condition.len(), MAX_WORD_BYTES)?;
    }
    let images = inventory.images.len();
    ensure(images <= MAX_IMAGES, "inventory.images", || format!("{images} images are over the limit of {MAX_IMAGES}"))
}

/// The images that a node tells: the [`MAX_IMAGES`] largest, whose place on a disk matters most. References beyond
/// [`MAX_IMAGE_REFERENCE_BYTES`] are left out: no service can name them.
pub fn largest_images(mut images: Vec<ImageInfo>) -> Vec<ImageInfo> {
    images.retain(|image| image.reference.len() <= MAX_IMAGE_REFERENCE_BYTES);
    if images.len() > MAX_IMAGES {
        // References break ties, so that the same images are chosen each time.
        images.sort_by(|a, b| b.size_bytes.cmp(&a.size_bytes).then_with(|| a.reference.cmp(&b.reference)));
        images.truncate(MAX_IMAGES);
    }
    images
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(key: usize, value: usize) -> BTreeMap<String, String> {
        [("k".repeat(key), "v".repeat(value))].into()
    }

    #[test]
    fn a_refusal_names_the_field_the_value_the_limit_and_the_remedy() {
        assert_eq!(validate_labels(&labels(MAX_LABEL_KEY_BYTES, MAX_LABEL_VALUE_BYTES)), Ok(()));
        let refused = validate_labels(&labels(3, MAX_LABEL_VALUE_BYTES + 1)).expect_err("too long");
        let text = "labels: the value of \"kkk\" has 257 bytes, over the limit of 256; shorten it in the worker's \
                    configuration";
        assert_eq!(refused.to_string(), text);
        validate_labels(&labels(MAX_LABEL_KEY_BYTES + 1, 1)).expect_err("too long");
        let many: BTreeMap<_, _> = (0..=MAX_LABELS).map(|number| (format!("l{number}"), String::new())).collect();
        let refused = validate_labels(&many).expect_err("too many").to_string();
        assert!(refused.starts_with("labels: 65 labels are over the limit of 64"), "{refused}");
    }

    #[test]
    fn each_part_of_an_inventory_is_bounded() {
        let sound = Inventory::default();
        assert_eq!(validate_inventory(&sound), Ok(()));
        let long = "x".repeat(1_000);
        let image = ImageInfo { reference: "a:1".into(), size_bytes: 1 };
        let wrong = [
            Inventory { agent_version: long.clone(), ..sound.clone() },
            Inventory { agent_address: long.clone(), ..sound.clone() },
            Inventory { conditions: [long].into(), ..sound.clone() },
            Inventory { conditions: (0..100).map(|number| number.to_string()).collect(), ..sound.clone() },
            Inventory { images: vec![image; MAX_IMAGES + 1], ..sound },
        ];
        for inventory in wrong {
            validate_inventory(&inventory).expect_err("over a limit");
        }
    }

    #[test]
    fn the_largest_images_are_kept_and_always_the_same() {
        let image = |size_bytes: u64| ImageInfo { reference: format!("image:{size_bytes}"), size_bytes };
        let kept = largest_images((0..200).map(image).collect());
        assert_eq!(kept, (150..200).rev().map(image).collect::<Vec<_>>());
        let long = ImageInfo { reference: "x".repeat(MAX_IMAGE_REFERENCE_BYTES + 1), size_bytes: 1 };
        assert_eq!(largest_images(vec![long, image(1)]), [image(1)]);
    }

    #[test]
    fn a_task_limit_is_between_one_and_the_most() {
        assert!([1, MAX_NODE_TASKS].into_iter().all(|limit| validate_max_tasks(limit).is_ok()));
        assert!([0, MAX_NODE_TASKS + 1].into_iter().all(|limit| validate_max_tasks(limit).is_err()));
    }
}

//! What there is: ids, specs, resources, tasks, nodes. Values only; which values may follow which is `state`'s.

pub mod id;
pub mod manager;
pub mod node;
pub mod resources;
pub mod security;
pub mod spec;
pub mod task;
pub mod validate;

pub use id::{ClusterId, NodeId, ParseIdError, RequestId, ServiceId, TaskId};
pub use manager::{Manager, Standing};
pub use node::{
    Availability, ImageInfo, Inventory, MAX_NODE_TASKS, MAX_OPERATOR_LABEL_BYTES, MAX_OPERATOR_LABELS, Node, NodeState,
    OPERATOR_LABEL_PREFIX, default_task_limit,
};
pub use resources::Resources;
pub use security::{Authority, Invited, JoinSecrets, Secret};
pub use spec::{
    Constraint, Driver, HealthCheck, HealthProbe, Mode, Mount, OnDisconnect, Placement, Port, Protocol,
    RestartCondition, RestartPolicy, ServiceSpec, Strategy,
};
pub use task::{Cause, Desired, Task, TaskState, reason};

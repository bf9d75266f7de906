//! The fleet engine.

use std::sync::Arc;

use mill_aws::{FleetEngine, FleetSettings};
use mill_conformance::{EngineSubject, Keep};
use mill_local::{OsClock, OsRng};

use crate::servers::{access, installation, punctual};

async fn engine() -> EngineSubject {
    let (_, names) = installation(punctual()).await;
    let settings = FleetSettings { access: access(punctual()), names, clock: Arc::new(OsClock), rng: Arc::new(OsRng) };
    EngineSubject { engine: Arc::new(FleetEngine::open(settings).await.unwrap()), keep: Keep::nothing() }
}

mill_conformance::engine_suite!(fleet, crate::engines::engine);

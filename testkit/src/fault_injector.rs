//! Ports that fail as planned: before a call, after its effect, or in the middle.

mod batch;
mod queue;
mod store;
mod streams;
mod table;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use mill_model::StoreAddress;
use mill_ports::{Clock, Rng};
use parking_lot::Mutex;

use crate::port_call::{PortCall, Shape};
use crate::seeded_rng::{below, happens};

/// The kinds of error that are injected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum FaultKind {
    /// Too many calls.
    Throttled,
    /// The back end cannot be used until a person acts.
    Unavailable,
    /// No answer.
    Unreachable,
    /// An answer that nobody expects.
    Unexpected,
}

/// One thing that goes wrong with one call.
///
/// Where a call has no middle (see each), a fault in the middle becomes [`InjectedFault::After`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InjectedFault {
    /// Nothing is done, and the call returns an error.
    Before(FaultKind),
    /// The call has its effect, and returns an error all the same.
    After(FaultKind),
    /// `open` and `list`: the stream ends in an error. `put`: the body does.
    Mid(FaultKind),
    /// `open` and `put`: bytes are missing at the body's end. `list`: the pages from some page on are missing.
    /// The streams end as if all were well.
    Truncate,
    /// `open` and `put`: one bit of the body is flipped. No error.
    Damage,
    /// Batches: some entries are done; the others are not, and are reported.
    Partial(FaultKind),
    /// Batches: all entries are done; some are reported as failed.
    PartialAfter(FaultKind),
    /// The call takes so much longer.
    Delay(Duration),
}

impl InjectedFault {
    /// Its name in the counts of injected faults.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Before(_) => "before",
            Self::After(_) => "after",
            Self::Mid(_) => "mid",
            Self::Truncate => "truncate",
            Self::Damage => "damage",
            Self::Partial(_) => "partial",
            Self::PartialAfter(_) => "partial-after",
            Self::Delay(_) => "delay",
        }
    }

    const fn kind(self) -> FaultKind {
        match self {
            Self::Before(kind)
            | Self::After(kind)
            | Self::Mid(kind)
            | Self::Partial(kind)
            | Self::PartialAfter(kind) => kind,
            Self::Truncate | Self::Damage | Self::Delay(_) => FaultKind::Unexpected,
        }
    }

    /// This fault, or [`InjectedFault::After`] if a call of that shape cannot have it.
    const fn for_shape(self, shape: Shape) -> Self {
        let can = match self {
            Self::Before(_) | Self::After(_) | Self::Delay(_) => true,
            Self::Mid(_) | Self::Truncate => matches!(shape, Shape::Bytes | Shape::Pages),
            Self::Damage => matches!(shape, Shape::Bytes),
            Self::Partial(_) | Self::PartialAfter(_) => matches!(shape, Shape::Batch),
        };
        if can { self } else { Self::After(self.kind()) }
    }
}

/// How often, in a thousand calls, each fault is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FaultRates {
    /// [`InjectedFault::Before`].
    pub before: u32,
    /// [`InjectedFault::After`].
    pub after: u32,
    /// [`InjectedFault::Mid`], of calls that can.
    pub mid: u32,
    /// [`InjectedFault::Truncate`], of calls that can.
    pub truncate: u32,
    /// [`InjectedFault::Damage`], of calls that can.
    pub damage: u32,
    /// [`InjectedFault::Partial`], of calls that can.
    pub partial: u32,
    /// [`InjectedFault::PartialAfter`], of calls that can.
    pub partial_after: u32,
    /// [`InjectedFault::Delay`].
    pub delay: u32,
    /// The longest delay.
    pub delay_max: Duration,
    /// How many of the faults' errors, in a thousand, are throttling.
    pub throttled: u32,
    /// How many of them are unavailability. The rest are unexpected.
    pub unavailable: u32,
}

/// Which calls fail, and how: by rates, by number of the call, or all of them. Several ports may share one plan.
#[derive(Debug)]
pub struct FaultPlan {
    clock: Arc<dyn Clock>,
    chance: Arc<dyn Rng>,
    state: Mutex<FaultPlanState>,
}

#[derive(Debug, Default)]
struct FaultPlanState {
    rates: FaultRates,
    calls: BTreeMap<PortCall, u64>,
    planned: BTreeMap<(PortCall, u64), InjectedFault>,
    outage: Option<FaultKind>,
    fired: BTreeMap<(PortCall, &'static str), u64>,
}

impl FaultPlan {
    /// A plan without faults.
    pub fn new(clock: Arc<dyn Clock>, chance: Arc<dyn Rng>) -> Arc<Self> {
        Arc::new(Self { clock, chance, state: Mutex::default() })
    }

    /// From now on faults are drawn at these rates.
    pub fn set_rates(&self, rates: FaultRates) {
        self.state.lock().rates = rates;
    }

    /// The `nth` call of `op` from now (the next is the first) fails like this, whatever the rates.
    pub fn fail(&self, op: PortCall, nth: u64, fault: InjectedFault) {
        let mut state = self.state.lock();
        let call = state.calls.get(&op).copied().unwrap_or(0) + nth.max(1);
        state.planned.insert((op, call), fault);
    }

    /// From now on every call fails before anything is done; `None` ends it.
    pub fn set_outage(&self, outage: Option<FaultKind>) {
        self.state.lock().outage = outage;
    }

    /// Removes all faults from the plan.
    pub fn calm(&self) {
        let mut state = self.state.lock();
        state.rates = FaultRates::default();
        state.planned.clear();
        state.outage = None;
    }

    /// The number of injected faults so far, by call and [label](InjectedFault::label).
    pub fn fired(&self) -> BTreeMap<(PortCall, &'static str), u64> {
        self.state.lock().fired.clone()
    }

    /// Counts a call, delays it if planned, and returns its fault.
    async fn next_fault(&self, op: PortCall) -> Option<InjectedFault> {
        let fault = self.draw(op)?;
        if let InjectedFault::Delay(by) = fault {
            self.clock.sleep(by).await;
            return None;
        }
        Some(fault)
    }

    fn draw(&self, op: PortCall) -> Option<InjectedFault> {
        let mut state = self.state.lock();
        let call = state.calls.entry(op).or_default();
        *call += 1;
        let call = *call;
        let fault = match (state.planned.remove(&(op, call)), state.outage) {
            (Some(planned), _) => planned,
            (None, Some(kind)) => InjectedFault::Before(kind),
            (None, None) => self.by_chance(&state.rates, op)?,
        };
        let fault = fault.for_shape(op.shape());
        *state.fired.entry((op, fault.label())).or_default() += 1;
        Some(fault)
    }

    fn by_chance(&self, rates: &FaultRates, op: PortCall) -> Option<InjectedFault> {
        let drawn = |rate| happens(&*self.chance, rate);
        let kind = || match below(&*self.chance, 1000) {
            draw if draw < u64::from(rates.throttled) => FaultKind::Throttled,
            draw if draw < u64::from(rates.throttled + rates.unavailable) => FaultKind::Unavailable,
            _ => FaultKind::Unexpected,
        };
        let (bytes, pages) = (op.shape() == Shape::Bytes, op.shape() == Shape::Pages);
        let batch = op.shape() == Shape::Batch;
        if drawn(rates.before) {
            return Some(InjectedFault::Before(kind()));
        }
        if drawn(rates.after) {
            return Some(InjectedFault::After(kind()));
        }
        if (bytes || pages) && drawn(rates.mid) {
            return Some(InjectedFault::Mid(kind()));
        }
        if (bytes || pages) && drawn(rates.truncate) {
            return Some(InjectedFault::Truncate);
        }
        if bytes && drawn(rates.damage) {
            return Some(InjectedFault::Damage);
        }
        if batch && drawn(rates.partial) {
            return Some(InjectedFault::Partial(kind()));
        }
        if batch && drawn(rates.partial_after) {
            return Some(InjectedFault::PartialAfter(kind()));
        }
        let millis = u64::try_from(rates.delay_max.as_millis()).unwrap_or(u64::MAX - 1);
        drawn(rates.delay).then(|| InjectedFault::Delay(Duration::from_millis(1 + below(&*self.chance, millis.max(1)))))
    }

    /// A number below `bound`.
    fn below(&self, bound: u64) -> u64 {
        below(&*self.chance, bound)
    }

    /// Which of so many entries fail: at least one of them, if there is any.
    fn pick_failing(&self, entries: usize) -> Vec<bool> {
        let certain = self.below(entries as u64) as usize;
        (0..entries).map(|index| index == certain || happens(&*self.chance, 500)).collect()
    }
}

/// A queue or table that fails as planned.
#[derive(Debug)]
pub struct FaultInjector<P: ?Sized> {
    plan: Arc<FaultPlan>,
    inner: Arc<P>,
}

impl<P: ?Sized> FaultInjector<P> {
    /// Fails by `plan`.
    pub fn new(inner: Arc<P>, plan: Arc<FaultPlan>) -> Self {
        Self { plan, inner }
    }
}

/// A store that fails as planned.
#[derive(Debug)]
pub struct FaultyStore<S: ?Sized> {
    plan: Arc<FaultPlan>,
    address: StoreAddress,
    inner: Arc<S>,
}

impl<S: ?Sized> FaultyStore<S> {
    /// Fails by `plan`; the injected errors name the store `address`.
    pub fn new(inner: Arc<S>, address: StoreAddress, plan: Arc<FaultPlan>) -> Self {
        Self { plan, address, inner }
    }
}

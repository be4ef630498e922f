//! How much the pool holds: permits on items and on bytes, taken before anything is queued. Never check-then-act.

use std::sync::Arc;
use std::time::Duration;

use procpool_items::ItemSlab;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::config::PoolConfig;
use crate::error::CallError;
use crate::snapshot::Held;

/// What an allocation takes beside what was asked for, about.
pub(crate) const ALLOCATION_BYTES: usize = 16;
/// What items that came together take in the driver beside themselves: where they are in their job, and allocations.
const LIST_BYTES: usize = size_of::<AdmittedItems>() + 2 * size_of::<u64>() + 4 * ALLOCATION_BYTES;

/// When a refused call may be worth trying again.
const RETRY_AFTER: Duration = Duration::from_millis(500);

/// The budgets of a pool.
#[derive(Debug, Clone)]
pub(crate) struct Admission {
    items: Arc<Semaphore>,
    bytes: Arc<Semaphore>,
    /// What common arguments may take of the bytes: half, so that a job that holds one never waits in vain for room for
    /// its items.
    common_bytes: Arc<Semaphore>,
    max_items: u32,
    max_bytes: u32,
}

/// Items with their share of the budgets, which is given back when they are dropped.
#[derive(Debug)]
pub(crate) struct AdmittedItems {
    pub(crate) slab: ItemSlab,
    _items: OwnedSemaphorePermit,
    _bytes: OwnedSemaphorePermit,
}

/// What a common argument takes, given back when dropped.
#[derive(Debug)]
pub(crate) struct CommonPermit {
    _share: OwnedSemaphorePermit,
    _bytes: OwnedSemaphorePermit,
}

impl Admission {
    pub(crate) fn new(config: &PoolConfig) -> Self {
        Self {
            items: Arc::new(Semaphore::new(config.max_queued_items as usize)),
            bytes: Arc::new(Semaphore::new(config.max_queued_bytes as usize)),
            common_bytes: Arc::new(Semaphore::new((config.max_queued_bytes / 2) as usize)),
            max_items: config.max_queued_items,
            max_bytes: config.max_queued_bytes,
        }
    }

    /// Returns what is taken of the budgets.
    pub(crate) fn held(&self) -> Held {
        let taken = |max: u32, budget: &Semaphore| u64::from(max) - budget.available_permits() as u64;
        Held { items: taken(self.max_items, &self.items), bytes: taken(self.max_bytes, &self.bytes) }
    }

    /// Takes what these items need, or refuses at once.
    pub(crate) fn try_admit(&self, slab: ItemSlab) -> Result<AdmittedItems, CallError> {
        let (num_items, num_bytes) = self.needs(&slab)?;
        let items = Arc::clone(&self.items).try_acquire_many_owned(num_items).map_err(|_| self.items_full())?;
        let bytes = Arc::clone(&self.bytes).try_acquire_many_owned(num_bytes).map_err(|_| self.bytes_full())?;
        Ok(AdmittedItems { slab, _items: items, _bytes: bytes })
    }

    /// Takes what a common argument needs, or refuses at once.
    pub(crate) fn try_admit_common(&self, num_bytes: usize) -> Result<CommonPermit, CallError> {
        let limit = self.max_bytes / 2;
        let what = "bytes of common arguments";
        let num_bytes = fits(num_bytes, what, limit)?;
        let share = Arc::clone(&self.common_bytes).try_acquire_many_owned(num_bytes).map_err(|_| full(what, limit))?;
        let bytes = Arc::clone(&self.bytes).try_acquire_many_owned(num_bytes).map_err(|_| self.bytes_full())?;
        Ok(CommonPermit { _share: share, _bytes: bytes })
    }

    /// Takes what these items need, as soon as it is there: for a stream, waiting is the way to say "slower".
    ///
    /// # Cancel safety
    ///
    /// Nothing is held if the future is dropped.
    pub(crate) async fn admit(&self, slab: ItemSlab) -> Result<AdmittedItems, CallError> {
        let (num_items, num_bytes) = self.needs(&slab)?;
        // Common arguments stay until their jobs end, which may be never; nobody waits for that.
        let taken = (self.max_bytes / 2) as usize - self.common_bytes.available_permits();
        if num_bytes as usize > self.max_bytes as usize - taken {
            return Err(self.bytes_full());
        }
        let closed = |_| CallError::PoolGone;
        let items = Arc::clone(&self.items).acquire_many_owned(num_items).await.map_err(closed)?;
        let bytes = Arc::clone(&self.bytes).acquire_many_owned(num_bytes).await.map_err(closed)?;
        Ok(AdmittedItems { slab, _items: items, _bytes: bytes })
    }

    fn needs(&self, slab: &ItemSlab) -> Result<(u32, u32), CallError> {
        let num_bytes = slab.held_bytes() + LIST_BYTES;
        Ok((fits(slab.len(), "items", self.max_items)?, fits(num_bytes, "bytes", self.max_bytes)?))
    }

    fn items_full(&self) -> CallError {
        full("items", self.max_items)
    }

    fn bytes_full(&self) -> CallError {
        full("bytes", self.max_bytes)
    }
}

/// Returns that there is no room now.
fn full(what: &'static str, limit: u32) -> CallError {
    CallError::QueueFull { what, limit: limit.into(), retry_after: RETRY_AFTER }
}

/// Returns a number that could be admitted if nothing else were there.
fn fits(num: usize, what: &'static str, limit: u32) -> Result<u32, CallError> {
    let larger = || CallError::LargerThanQueue { what, num: num as u64, limit: limit.into() };
    u32::try_from(num).ok().filter(|&num| num <= limit).ok_or_else(larger)
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use procpool_items::{ItemKind, ItemSlab, SlabBuilder};

    use super::Admission;
    use crate::config::PoolConfig;
    use crate::error::CallError;
    use crate::snapshot::Held;

    /// What an item of [`slab_of`] takes: its ten bytes, and where it is.
    const ITEM_BYTES: usize = 14;
    /// What a list takes beside its items.
    const LIST_BYTES: usize = super::LIST_BYTES + 4;

    fn slab_of(items: usize) -> ItemSlab {
        let mut builder = SlabBuilder::new();
        (0..items).for_each(|_| builder.push(b"12345678"));
        ItemSlab::parse(ItemKind::Blobs, builder.take()).unwrap()
    }

    fn bytes_of(items: usize) -> u32 {
        u32::try_from(LIST_BYTES + items * ITEM_BYTES).unwrap()
    }

    /// A list that takes about as much as this, and no more.
    fn slab_of_bytes(bytes: usize) -> ItemSlab {
        slab_of((bytes - LIST_BYTES) / ITEM_BYTES)
    }

    #[test]
    fn a_full_budget_refuses_and_names_what_is_full_and_a_dropped_permit_makes_room() {
        let (items, bytes) = (3, bytes_of(10));
        let config =
            PoolConfig { max_queued_items: items, max_queued_bytes: bytes, ..PoolConfig::new(NonZeroU32::MIN) };
        let admission = Admission::new(&config);
        let permit = admission.try_admit(slab_of(2)).unwrap();
        assert_eq!(admission.held(), Held { items: 2, bytes: bytes_of(2).into() });
        let refused = admission.try_admit(slab_of(2)).unwrap_err();
        assert!(matches!(refused, CallError::QueueFull { what: "items", limit: 3, .. }));
        drop(permit);
        assert!(admission.try_admit(slab_of(3)).is_ok());
        let refused = admission.try_admit(slab_of(4)).unwrap_err();
        assert!(matches!(refused, CallError::LargerThanQueue { what: "items", num: 4, limit: 3 }), "{refused}");

        let admission = Admission::new(&PoolConfig { max_queued_items: 1000, ..config });
        let refused = admission.try_admit(slab_of(11)).unwrap_err();
        let CallError::LargerThanQueue { what: "bytes", num, limit } = refused else { panic!("{refused}") };
        assert_eq!((num, limit), (bytes_of(11).into(), bytes.into()));
        let permit = admission.try_admit(slab_of(2)).unwrap();
        let refused = admission.try_admit(slab_of(9)).unwrap_err();
        assert!(matches!(refused, CallError::QueueFull { what: "bytes", .. }));
        drop(permit);
        assert!(admission.try_admit(slab_of(10)).is_ok(), "nothing was held by the refused call");
    }

    #[tokio::test]
    async fn common_arguments_take_at_most_half_of_the_bytes_and_nobody_waits_for_them() {
        let config = PoolConfig { max_queued_bytes: 10_000, ..PoolConfig::new(NonZeroU32::MIN) };
        let admission = Admission::new(&config);
        let permit = admission.try_admit_common(3_000).unwrap();
        let refused = admission.try_admit_common(3_000).unwrap_err();
        assert!(matches!(refused, CallError::QueueFull { what: "bytes of common arguments", limit: 5_000, .. }));
        let refused = admission.try_admit_common(5_001).unwrap_err();
        assert!(matches!(refused, CallError::LargerThanQueue { num: 5_001, limit: 5_000, .. }), "{refused}");
        assert!(admission.try_admit(slab_of_bytes(8_000)).is_err(), "7,000 are left");
        // Items that would fit if the common argument were gone do not wait for that.
        let refused = admission.admit(slab_of_bytes(8_000)).await.unwrap_err();
        assert!(matches!(refused, CallError::QueueFull { what: "bytes", limit: 10_000, .. }));
        drop(admission.admit(slab_of_bytes(7_000)).await.unwrap());
        drop(permit);
        drop(admission.admit(slab_of_bytes(10_000)).await.unwrap());
        assert!(admission.try_admit_common(5_000).is_ok());
    }
}

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
    items: Budget,
    bytes: Budget,
    /// What common arguments may take of the bytes: half, so that a job that holds one never waits in vain for permits
    /// for its items.
    common_bytes: Budget,
}

/// A bound on how much is held of something.
#[derive(Debug, Clone)]
struct Budget {
    what: &'static str,
    limit: u32,
    permits: Arc<Semaphore>,
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
            items: Budget::new("items", config.max_queued_items),
            bytes: Budget::new("bytes", config.max_queued_bytes),
            common_bytes: Budget::new("bytes of common arguments", config.max_queued_bytes / 2),
        }
    }

    /// Returns what is taken of the budgets.
    pub(crate) fn held(&self) -> Held {
        Held { items: self.items.taken().into(), bytes: self.bytes.taken().into() }
    }

    /// Takes what these items need, or refuses at once.
    pub(crate) fn try_admit(&self, slab: ItemSlab) -> Result<AdmittedItems, CallError> {
        let (num_items, num_bytes) = self.needs(&slab)?;
        let (items, bytes) = (self.items.try_take(num_items)?, self.bytes.try_take(num_bytes)?);
        Ok(AdmittedItems { slab, _items: items, _bytes: bytes })
    }

    /// Takes what a common argument needs, or refuses at once.
    pub(crate) fn try_admit_common(&self, num_bytes: usize) -> Result<CommonPermit, CallError> {
        let num_bytes = self.common_bytes.fit(num_bytes)?;
        let (share, bytes) = (self.common_bytes.try_take(num_bytes)?, self.bytes.try_take(num_bytes)?);
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
        if num_bytes > self.bytes.limit - self.common_bytes.taken() {
            return Err(self.bytes.full());
        }
        let items = self.items.take(num_items).await?;
        let bytes = self.bytes.take(num_bytes).await?;
        Ok(AdmittedItems { slab, _items: items, _bytes: bytes })
    }

    fn needs(&self, slab: &ItemSlab) -> Result<(u32, u32), CallError> {
        Ok((self.items.fit(slab.len())?, self.bytes.fit(slab.held_bytes() + LIST_BYTES)?))
    }
}

impl Budget {
    fn new(what: &'static str, limit: u32) -> Self {
        Self { what, limit, permits: Arc::new(Semaphore::new(limit as usize)) }
    }

    fn taken(&self) -> u32 {
        self.limit - u32::try_from(self.permits.available_permits()).unwrap_or(self.limit)
    }

    /// Returns a number of permits that could be had if no other were taken.
    fn fit(&self, num: usize) -> Result<u32, CallError> {
        let &Self { what, limit, .. } = self;
        let larger = CallError::LargerThanQueue { what, num: num as u64, limit: limit.into() };
        u32::try_from(num).ok().filter(|&num| num <= limit).ok_or(larger)
    }

    fn full(&self) -> CallError {
        CallError::QueueFull { what: self.what, limit: self.limit.into(), retry_after: RETRY_AFTER }
    }

    fn try_take(&self, num: u32) -> Result<OwnedSemaphorePermit, CallError> {
        Arc::clone(&self.permits).try_acquire_many_owned(num).map_err(|_| self.full())
    }

    async fn take(&self, num: u32) -> Result<OwnedSemaphorePermit, CallError> {
        Arc::clone(&self.permits).acquire_many_owned(num).await.map_err(|_| CallError::PoolGone)
    }
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

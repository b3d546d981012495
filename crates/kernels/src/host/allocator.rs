//! The allocator's way with large buffers.

/// From this many bytes on, memory goes back to the system as soon as it is freed.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const LARGE: i32 = 1 << 17;

/// Has the allocator return large buffers to the system when they are freed, for the whole process.
///
/// Where each operation allocates its result, as the composed forms do on the processor, glibc soon
/// serves even large buffers from a heap that is full of gaps: the peak then lies up to a sixth above
/// what was ever in use. Returned buffers cost page faults, 3 to 8% of an f32 step, so this is not for
/// where [`Buffer`](super::Buffer)s are used again. Elsewhere than on glibc, and where the environment sets
/// `MALLOC_MMAP_THRESHOLD_`, it does nothing.
pub fn return_large_buffers() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    if std::env::var_os("MALLOC_MMAP_THRESHOLD_").is_none() {
        #[expect(unsafe_code, reason = "the allocator is the C library's")]
        // SAFETY: `mallopt` takes a lock of the allocator, and a threshold changes only where memory
        // that is asked for later comes from; what is out remembers where it came from.
        let is_set = unsafe { libc::mallopt(libc::M_MMAP_THRESHOLD, LARGE) };
        debug_assert_eq!(is_set, 1, "the threshold is below the allocator's limit");
    }
}

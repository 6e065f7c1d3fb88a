//! Look-ups in longest-prefix-match maps.

use core::{mem::MaybeUninit, ptr};

use aya_ebpf::btf_maps::{LpmTrie, lpm_trie::Key};
use bytemuck::NoUninit;

/// A key on the stack, aligned as its words are written.
#[repr(C, align(8))]
struct OnStack<K>(MaybeUninit<Key<K>>);

/// What the longest prefix of `data` has.
///
/// The key is packed: its data lie at an offset of 4. LLVM, which is told that any access will do (a packet's will), would
/// write them in words of 8, and the verifier takes only aligned accesses to the stack. So the key is written word by word.
#[inline(always)]
pub fn find<K: NoUninit, V, const N: usize>(map: &LpmTrie<K, V, N>, data: K) -> Option<&'static V> {
    const { assert!(size_of::<K>().is_multiple_of(4)) };
    let mut key = OnStack::<K>(MaybeUninit::uninit());
    let words = ptr::from_mut(&mut key).cast::<u32>();
    let source = ptr::from_ref(&data).cast::<u32>();
    // SAFETY: all of the key is written, in words that lie within it; an element of such a map is replaced, never written
    // to, and stays for as long as the program runs.
    unsafe {
        words.write_volatile(8 * size_of::<K>() as u32);
        let mut word = 0;
        while word < size_of::<K>() / 4 {
            words.add(1 + word).write_volatile(source.add(word).read_unaligned());
            word += 1;
        }
        map.get(key.0.assume_init_ref()).map(|value| &*ptr::from_ref(value))
    }
}

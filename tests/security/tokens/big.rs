//! RSA by hand, for keys that a sound library refuses to sign with.

/// `base ^ exponent mod modulus`, all big-endian; as long as the modulus.
///
/// Schoolbook arithmetic on bits: slow, exact, and used for test keys only.
pub(super) fn power(base: &[u8], exponent: &[u8], modulus: &[u8]) -> Vec<u8> {
    let modulus = limbs(modulus);
    let base = reduce(&limbs(base), &modulus);
    let mut result = vec![0_u32; modulus.len()];
    if let Some(first) = result.first_mut() {
        *first = 1;
    }
    for byte in exponent {
        for bit in (0..8).rev() {
            result = multiply(&result, &result, &modulus);
            if byte >> bit & 1 == 1 {
                result = multiply(&result, &base, &modulus);
            }
        }
    }
    result
        .iter()
        .rev()
        .flat_map(|limb| limb.to_be_bytes())
        .collect()
}

/// Least significant first.
fn limbs(bytes: &[u8]) -> Vec<u32> {
    bytes
        .rchunks(4)
        .map(|chunk| {
            chunk
                .iter()
                .fold(0, |all, byte| all << 8 | u32::from(*byte))
        })
        .collect()
}

/// Shift and add: never holds more than one limb beyond the modulus.
fn multiply(a: &[u32], b: &[u32], modulus: &[u32]) -> Vec<u32> {
    let mut product = vec![0_u32; a.len() + b.len()];
    for (i, x) in a.iter().enumerate() {
        let mut carry = 0_u64;
        for (j, y) in b.iter().enumerate() {
            let at = u64::from(product[i + j]) + u64::from(*x) * u64::from(*y) + carry;
            product[i + j] = at as u32;
            carry = at >> 32;
        }
        product[i + b.len()] = carry as u32;
    }
    reduce(&product, modulus)
}

fn reduce(value: &[u32], modulus: &[u32]) -> Vec<u32> {
    let mut rest = vec![0_u32; modulus.len() + 1];
    for bit in (0..value.len() * 32).rev() {
        let mut carry = value[bit / 32] >> (bit % 32) & 1;
        for limb in &mut rest {
            let next = *limb >> 31;
            *limb = *limb << 1 | carry;
            carry = next;
        }
        if !less(&rest, modulus) {
            let mut borrow = 0_i64;
            for (i, limb) in rest.iter_mut().enumerate() {
                let other = modulus.get(i).copied().unwrap_or(0);
                let left = i64::from(*limb) - i64::from(other) - borrow;
                borrow = i64::from(left < 0);
                *limb = left as u32;
            }
        }
    }
    rest.truncate(modulus.len());
    rest
}

fn less(a: &[u32], b: &[u32]) -> bool {
    for i in (0..a.len().max(b.len())).rev() {
        let (x, y) = (
            a.get(i).copied().unwrap_or(0),
            b.get(i).copied().unwrap_or(0),
        );
        if x != y {
            return x < y;
        }
    }
    false
}

//! The order of starts: each after those that it needs.

/// What is known of one while an order is made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Mark {
    #[default]
    New,
    /// Its needs are being looked at.
    OnPath,
    Done,
}

/// A mark for each, by its number: the numbers begin at 0 and have few gaps.
#[derive(Debug, Default)]
struct Marks(Vec<Mark>);

impl Marks {
    fn get(&self, index: u32) -> Mark {
        self.0.get(index as usize).copied().unwrap_or_default()
    }

    /// Returns the mark that was there.
    fn set(&mut self, index: u32, mark: Mark) -> Mark {
        let place = index as usize;
        if self.0.len() <= place {
            self.0.resize(place + 1, Mark::New);
        }
        std::mem::replace(&mut self.0[place], mark)
    }
}

/// Returns `wanted` and all that they need, each after those that it needs and otherwise in the
/// given order. The error is one that needs itself.
pub(super) fn start_order<'a>(
    wanted: &[u32],
    needs: impl Fn(u32) -> &'a [u32],
) -> Result<Vec<u32>, u32> {
    let mut order = Vec::with_capacity(wanted.len());
    let mut marks = Marks::default();
    // Those whose needs are being looked at, with how many of them are done: a stack of our own, so
    // that a long chain needs no deep one.
    let mut path: Vec<(u32, usize)> = Vec::new();
    for first in wanted {
        if needs(*first).is_empty() {
            // By far the most need nobody.
            if marks.set(*first, Mark::Done) != Mark::Done {
                order.push(*first);
            }
            continue;
        }
        if marks.get(*first) != Mark::Done {
            path.push((*first, 0));
            marks.set(*first, Mark::OnPath);
        }
        while let Some((index, position)) = path.last_mut() {
            let index = *index;
            match needs(index).get(*position) {
                Some(needed) => {
                    *position += 1;
                    match marks.get(*needed) {
                        Mark::OnPath => return Err(index),
                        Mark::Done => {}
                        Mark::New => {
                            path.push((*needed, 0));
                            marks.set(*needed, Mark::OnPath);
                        }
                    }
                }
                None => {
                    path.pop();
                    marks.set(index, Mark::Done);
                    order.push(index);
                }
            }
        }
    }
    Ok(order)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(needs: &[&'static [u32]]) -> Result<Vec<u32>, u32> {
        let wanted: Vec<u32> = (0..needs.len() as u32).collect();
        start_order(&wanted, |index| needs[index as usize])
    }

    #[test]
    fn needs_come_first_and_the_rest_keeps_its_order() {
        assert_eq!(order(&[&[], &[], &[]]), Ok(vec![0, 1, 2]));
        assert_eq!(order(&[&[2], &[], &[1]]), Ok(vec![1, 2, 0]));
        assert_eq!(order(&[&[1, 2], &[3], &[3], &[]]), Ok(vec![3, 1, 2, 0]));
    }

    #[test]
    fn only_what_is_wanted_and_needed_is_started() {
        let needs: [&[u32]; 3] = [&[], &[0], &[]];
        assert_eq!(start_order(&[1], |index| needs[index as usize]), Ok(vec![0, 1]));
    }

    #[test]
    fn a_circle_is_an_error_that_names_a_member() {
        assert!(matches!(order(&[&[1], &[2], &[0]]), Err(0..=2)));
        assert_eq!(order(&[&[0]]), Err(0));
        assert!(matches!(order(&[&[1], &[2], &[1]]), Err(1 | 2)));
    }

    #[test]
    fn a_chain_of_a_hundred_thousand_is_no_deep_stack() {
        let chain: Vec<[u32; 1]> = (0..100_000).map(|index| [index + 1]).collect();
        let needs = |index: u32| chain.get(index as usize).map_or(&[][..], |next| &next[..]);
        let order = start_order(&[0], needs).unwrap();
        assert_eq!((order[0], order.len()), (100_000, 100_001));
    }
}

//! What of a mask hangs together: its rows as stretches of inside, joined to components. The work is that of the stretches, not of the pixels.

use super::Gray;

/// How far from the kept component a soft value still belongs to its edge, px.
const SOFT_REACH: usize = 2;

/// A stretch of a row, `x0..x1`, and the component it belongs to.
struct Run {
    y: usize,
    x0: usize,
    x1: usize,
    parent: usize,
}

fn root(runs: &mut [Run], mut i: usize) -> usize {
    while runs[i].parent != i {
        runs[i].parent = runs[runs[i].parent].parent;
        i = runs[i].parent;
    }
    i
}

/// The stretches of each row that are inside, in order, each a component of its own.
fn runs_of(mask: &Gray) -> Vec<Run> {
    let mut runs = Vec::new();
    for y in 0..mask.height {
        let (row, mut x) = (mask.row(y), 0);
        loop {
            let x0 = x + same(&row[x..], 0);
            if x0 == mask.width {
                break;
            }
            x = x0 + same(&row[x0..], 0x80);
            runs.push(Run { y, x0, x1: x, parent: runs.len() });
        }
    }
    runs
}

/// How many px of a row are inside (`side` 0x80), or outside (0), before the first that is not.
fn same(row: &[u8], side: u8) -> usize {
    let differ = |some: &[u8]| some.iter().fold(0, |bits, v| bits | (v ^ side)) & 0x80 != 0;
    // Long stretches of the same are the rule.
    let (chunks, _) = row.as_chunks::<32>();
    let from = 32 * chunks.iter().position(|chunk| differ(chunk)).unwrap_or(chunks.len());
    row[from..].iter().position(|v| (v ^ side) & 0x80 != 0).map_or(row.len(), |x| from + x)
}

/// The stretches between runs, which are in order.
fn gaps(runs: &[Run], width: usize, height: usize) -> Vec<Run> {
    let (mut gaps, mut runs) = (Vec::new(), runs.iter().peekable());
    for y in 0..height {
        let mut x = 0;
        while let Some(run) = runs.next_if(|run| run.y == y) {
            if x < run.x0 {
                gaps.push(Run { y, x0: x, x1: run.x0, parent: gaps.len() });
            }
            x = run.x1;
        }
        if x < width {
            gaps.push(Run { y, x0: x, x1: width, parent: gaps.len() });
        }
    }
    gaps
}

/// Lets runs, which are in order, point at their component's first run. `reach` 0: 4-connected, 1: 8-connected.
fn components(mut runs: Vec<Run>, reach: usize) -> Vec<Run> {
    let (mut above, mut start) = (0..0, 0);
    while start < runs.len() {
        let y = runs[start].y;
        let end = start + runs[start..].iter().take_while(|run| run.y == y).count();
        let mut a = above.start;
        for i in start..end {
            while a < above.end && (runs[a].y + 1 < y || runs[a].x1 + reach <= runs[i].x0) {
                a += 1;
            }
            let mut b = a;
            while b < above.end && runs[b].x0 < runs[i].x1 + reach {
                let (p, q) = (root(&mut runs, b), root(&mut runs, i));
                let (first, later) = (p.min(q), p.max(q));
                runs[later].parent = first;
                b += 1;
            }
        }
        (above, start) = (start..end, end);
    }
    for i in 0..runs.len() {
        runs[i].parent = root(&mut runs, i);
    }
    runs
}

/// Pixels of each component, at the place of its first run.
fn sizes(runs: &[Run]) -> Vec<usize> {
    let mut size = vec![0; runs.len()];
    for r in runs {
        size[r.parent] += r.x1 - r.x0;
    }
    size
}

/// Calls `each(component number 0.., y, x0, x1)` for the runs of the 8-connected components of the inside; gives how many there are.
pub fn each_component(mask: &Gray, mut each: impl FnMut(usize, usize, usize, usize)) -> usize {
    let runs = components(runs_of(mask), 1);
    let mut number = vec![usize::MAX; runs.len()];
    let mut count = 0;
    for r in &runs {
        if number[r.parent] == usize::MAX {
            number[r.parent] = count;
            count += 1;
        }
        each(number[r.parent], r.y, r.x0, r.x1);
    }
    count
}

/// Keeps the largest component of the inside with its soft edge, fills its holes, clears the rest. Doing it twice changes nothing more.
/// Work: that of the rectangle around what is not 0.
pub fn clean(mask: &mut Gray) {
    let Some((left, top, right, bottom)) = mask.bounds(1) else { return };
    // With a rim of nothing, where there is room for one: a hole of the rectangle is then a hole of the picture.
    let (x, y) = (left.saturating_sub(1), top.saturating_sub(1));
    let mut part = mask.crop(x, y, (right + 1).min(mask.width) - x, (bottom + 1).min(mask.height) - y);
    clean_all(&mut part);
    mask.paste(&part, x, y);
}

fn clean_all(mask: &mut Gray) {
    let (width, height) = (mask.width, mask.height);
    let runs = components(runs_of(mask), 0);
    let size = sizes(&runs);
    let Some(first) = (0..runs.len()).rev().max_by_key(|i| size[*i]) else {
        mask.data.fill(0);
        return;
    };
    let (mut kept, other): (Vec<Run>, Vec<Run>) = runs.into_iter().partition(|run| run.parent == first);
    other.iter().for_each(|run| mask.data[run.y * width + run.x0..run.y * width + run.x1].fill(0));
    // What is not kept and does not reach the picture's border is a hole.
    let outside = components(gaps(&kept, width, height), 1);
    let mut open = vec![false; outside.len()];
    for r in &outside {
        open[r.parent] |= r.y == 0 || r.y + 1 == height || r.x0 == 0 || r.x1 == width;
    }
    for hole in outside.into_iter().filter(|run| !open[run.parent]) {
        mask.data[hole.y * width + hole.x0..hole.y * width + hole.x1].fill(255);
        kept.push(hole);
    }
    kept.sort_unstable_by_key(|run| run.y);
    let mut near = vec![0; width];
    for y in 0..height {
        near.fill(0);
        let row = |y: usize| kept.partition_point(|run| run.y < y);
        for run in &kept[row(y.saturating_sub(SOFT_REACH))..row(y + SOFT_REACH + 1)] {
            near[run.x0.saturating_sub(SOFT_REACH)..(run.x1 + SOFT_REACH).min(width)].fill(255);
        }
        mask.data[y * width..][..width].iter_mut().zip(&near).for_each(|(v, near)| *v &= near);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::imaging::mask::tests::picture;

    #[test]
    fn clean_keeps_the_largest_part_with_its_soft_edge_and_fills_its_holes() {
        let mut m = picture(&["##0000000", "000055500", "00005###5", "00005#0#5", "00005###5", "000000000"]);
        clean(&mut m);
        assert_eq!(m, picture(&["000000000", "000055500", "00005###5", "00005###5", "00005###5", "000000000"]));
    }

    #[test]
    fn cleaning_twice_is_cleaning_once_and_an_empty_mask_stays_empty() {
        let mut seed = 7u32;
        let mut m = Gray::new(61, 47);
        for v in &mut m.data {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            *v = (seed >> 24) as u8;
        }
        clean(&mut m);
        let once = m.clone();
        clean(&mut m);
        assert_eq!(m, once);
        let mut empty = picture(&["0010", "0200"]);
        clean(&mut empty);
        assert_eq!(empty.count_inside() + usize::from(empty.data.iter().any(|v| *v > 0)), 0);
    }

    #[test]
    fn cleaning_by_runs_gives_what_cleaning_px_by_px_does() {
        // Blobs of many sizes: smooth noise, at widths on both sides of the pieces that rows are read in.
        for (w, h, seed) in [(31usize, 20usize, 1u32), (33, 40, 2), (64, 30, 3), (97, 60, 4), (130, 50, 5), (161, 90, 6)] {
            let wave = |i: usize, k: u32| (i as f64 * f64::from(seed * k % 7 + 2) * 0.11 + f64::from(k)).sin();
            let level = |x: usize, y: usize| 127.0 + 60.0 * (wave(x, 3) + wave(y, 5) + wave(x + y, 2) + 0.4 * wave(x * 3 + y, 9));
            let before = Gray { width: w, height: h, data: (0..w * h).map(|i| level(i % w, i / w) as u8).collect() };
            // Each px its part's number, in the order of their first px; None: not `is`.
            let parts = |diagonal: bool, is: &dyn Fn(usize) -> bool| {
                let mut part = vec![None; w * h];
                for number in 0..w * h {
                    let mut open = vec![number];
                    while let Some(i) = open.pop() {
                        if is(i) && part[i].is_none() {
                            part[i] = Some(number);
                            let around = (-1..=1).flat_map(|dx| (-1..=1).map(move |dy| (dx, dy))).filter(|(x, y)| diagonal || x * y == 0);
                            let around = around.map(|(dx, dy)| ((i % w).wrapping_add_signed(dx), (i / w).wrapping_add_signed(dy)));
                            open.extend(around.filter(|(x, y)| *x < w && *y < h).map(|(x, y)| y * w + x));
                        }
                    }
                }
                part
            };
            let inside = |i: usize| before.data[i] >= 128;
            let inner = parts(false, &inside);
            let size = |part: usize| inner.iter().filter(|p| **p == Some(part)).count();
            let numbers: BTreeSet<usize> = inner.iter().flatten().copied().collect();
            let largest = numbers.into_iter().reduce(|a, b| if size(b) > size(a) { b } else { a });
            let outside = |i: usize| inner[i] != largest;
            let outer = parts(true, &outside);
            let border = |i: &usize| [0, w - 1].contains(&(i % w)) || [0, h - 1].contains(&(i / w));
            let open: BTreeSet<usize> = (0..w * h).filter(border).filter_map(|i| outer[i]).collect();
            let kept: Vec<bool> = outer.iter().map(|part| part.is_none_or(|part| !open.contains(&part))).collect();
            let near = |i: usize| {
                let (x, y) = (i % w, i / w);
                let rows = y.saturating_sub(SOFT_REACH)..(y + SOFT_REACH + 1).min(h);
                rows.into_iter().any(|y| kept[y * w + x.saturating_sub(SOFT_REACH)..y * w + (x + SOFT_REACH + 1).min(w)].contains(&true))
            };
            let want = (0..w * h).map(|i| match before.data[i] {
                v if kept[i] => {
                    if outside(i) {
                        255
                    } else {
                        v
                    }
                }
                v if v >= 128 || !near(i) => 0,
                v => v,
            });
            let mut fast = before.clone();
            clean(&mut fast);
            assert_eq!(fast.data, want.collect::<Vec<u8>>(), "{w}x{h}");
        }
    }

    #[test]
    fn two_diagonal_spots_are_one_component_for_counting() {
        let mut spans = Vec::new();
        let n = each_component(&picture(&["#00#", "0#00", "0000"]), |c, y, x0, x1| spans.push((c, y, x0, x1)));
        assert_eq!(n, 2);
        assert_eq!(spans, [(0, 0, 0, 1), (1, 0, 3, 4), (0, 1, 1, 2)]);
    }
}

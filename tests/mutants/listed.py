"""The listed mutants: each breaks one line of the package, and the tests that it names must then fail.

Whoever moves or rewrites a line that stands here changes the entry too; ``test_listed.py`` says which entry no longer fits.
"""
from __future__ import annotations

__all__ = ["MUTANTS", "Mutant"]

from typing import NamedTuple


class Mutant(NamedTuple):
    """One change of the package.

    Args:
        file: below ``torchreid_nas/``.
        old: text that occurs exactly once in the file.
        new: what takes the place of ``old``.
        tests: test files below ``tests/``, at least one test of which must fail.
    """

    file: str
    old: str
    new: str
    tests: str


def _of(file: str, tests: str, *changes: tuple[str, str]) -> list[Mutant]:
    return [Mutant(file, old, new, tests) for old, new in changes]


MUTANTS = [
    # -- losses
    *_of(
        "losses/triplet.py", "losses/test_triplet.py",
        ("positive = distance.masked_fill(~same, -torch.inf).argmax(dim=-1)",
         "positive = distance.masked_fill(~same, torch.inf).argmin(dim=-1)"),
        ("negative = distance.masked_fill(same, torch.inf).argmin(dim=-1)",
         "negative = distance.masked_fill(same, -torch.inf).argmax(dim=-1)"),
        ("    hinge: Tensor = (d_positive - d_negative + margin).relu()", "    hinge: Tensor = d_positive - d_negative + margin"),
        ("    hinge: Tensor = (d_positive - d_negative + margin).relu()",
         "    hinge: Tensor = (d_positive - d_negative - margin).relu()"),
        ("distance = torch.addmm(features.square().sum(dim=1), features, features.mT, alpha=-2)",
         "distance = torch.addmm(features.square().sum(dim=1), features, features.mT, alpha=-1)"),
        ("first_row = torch.arange(parts, device=features.device) * batch",
         "first_row = torch.arange(parts, device=features.device) * 0"),
        ("terms += [hinge[:edge].mean(), hinge[edge:].mean()]", "terms += [hinge.mean()]"),
    ),
    *_of(
        "losses/weighted_triplet.py", "losses/test_weighted_triplet.py",
        ("_softmax(-alpha * distance, ~same)", "_softmax(alpha * distance, ~same)"),
        ("torch.where(negative >= positive, -squared, squared)", "torch.where(negative >= positive, squared, -squared)"),
        ("_DENOMINATOR = 1e-6", "_DENOMINATOR = 1e-12"),
        ("_LARGEST_EXPONENT = 88.0", "_LARGEST_EXPONENT = 20.0"),
    ),
    *_of(
        "losses/c3mmd.py", "losses/test_c3mmd.py",
        ("return (vv.square() + tt.square() - 2 * vt.square()).mean()",
         "return (vv.square() + tt.square() - vt.square()).mean()"),
        ("return vv + tt - 2 * vt", "return vv + tt - vt"),
        ("of_infrared = _normalize_rows(infrared @ infrared.mT)", "of_infrared = infrared @ infrared.mT"),
        ("if not torch.equal(visible_pids, infrared_pids):",
         "if not torch.equal(visible_pids.sort().values, infrared_pids.sort().values):"),
        ("return x / norm.masked_fill(norm == 0, 1)", "return x / norm.clamp(min=1e-12)"),
    ),
    *_of(
        "losses/memory.py", "losses/test_memory.py",
        ("new = (1 - momentum) * new", "new = momentum * new"),
        ("new = F.normalize(new).to(self.features.dtype)", "new = new.to(self.features.dtype)"),
        ("occurrence[order] = np.arange(len(order)) - np.searchsorted(ordered, ordered)",
         "occurrence[order] = np.searchsorted(ordered, ordered, side='right') - 1 - np.arange(len(order))"),
    ),
    *_of(
        "losses/positive_prediction.py", "losses/test_positive_prediction.py",
        ("return logits.sigmoid() > self.threshold", "return logits > self.threshold"),
        (".masked_fill_(own, -torch.inf).softmax(dim=2)", ".softmax(dim=2)"),
        ("anchors, candidates = anchors.detach(), candidates.detach()", "anchors, candidates = anchors, candidates"),
    ),
    # -- protocols: ranking and exclusion
    *_of(
        "metrics/scores.py", "metrics/test_ranking.py",
        ("return (self.nth / (self.places + 1)).mul_(self.kept)", "return (self.nth / (self.places + 2)).mul_(self.kept)"),
        ("before = ((ranked.nth - 1) / places).masked_fill(places == 0, 1.0)",
         "before = ((ranked.nth - 1) / places).masked_fill(places == 0, 0.0)"),
        ("return ranked.total / (last + 1)", "return 1 / (last + 1)"),
    ),
    *_of(
        "metrics/places.py", "metrics/test_ranking.py",
        ("counts[place, number] += int((positions[equal] < columns[place, number].numpy()).sum())",
         "counts[place, number] += int((positions[equal] > columns[place, number].numpy()).sum())"),
    ),
    *_of(
        "metrics/ranking.py", "metrics/test_ranking.py metrics/test_protocols.py",
        ("(cameras[1][of_identity] == cameras[0][span, None])", "(cameras[1][of_identity] != cameras[0][span, None])"),
        ("first = (hits < nearest).sum(dim=1)", "first = (hits <= nearest).sum(dim=1)"),
        ("closer = (block < nearest) | ((block == nearest) & earlier)", "closer = block < nearest"),
    ),
    *_of(
        "metrics/skipping.py", "metrics/test_skipping.py metrics/test_protocols.py",
        ("found |= (q_camids == camera)[:, None] & np.isin(g_camids, list(others))",
         "found |= (q_camids != camera)[:, None] & np.isin(g_camids, list(others))"),
        ("found |= (q_pids[:, None] == g_pids) & (q_camids[:, None] == g_camids)",
         "found |= q_camids[:, None] == g_camids"),
    ),
    *_of(
        "metrics/protocols.py", "metrics/test_protocols.py data_sets/test_llcm.py",
        ("skipped_cameras={2: frozenset({1})}, unique_identities=True, num_cameras=6)",
         "skipped_cameras={1: frozenset({2})}, unique_identities=True, num_cameras=6)"),
        ("return cameras % self.second_sensor if self.second_sensor else cameras", "return cameras"),
        ('Protocol("market1501", "Market-1501", skips_own_camera=True),', 'Protocol("market1501", "Market-1501"),'),
        ('Protocol("regdb", "RegDB"),', 'Protocol("regdb", "RegDB", unique_identities=True),'),
        ("count += bool(cameras_of.get(pid, set()) - skipped)", "count += bool(cameras_of.get(pid, set()))"),
    ),
    *_of(
        "metrics/tally.py", "metrics/test_ranking.py metrics/test_protocols.py",
        ("places = (keys >> 1) - dropped.cumsum(dim=1) + dropped", "places = keys >> 1"),
        ("first = first.masked_fill(ranked.total == 0, -1)", "first = first.masked_fill(ranked.total == 0, 0)"),
    ),
    # -- samplers
    *_of(
        "data/sampler.py", "data_sets/test_sampler.py data_sets/test_joint_loader.py data_sets/test_channels.py",
        ("generator.choice(len(self._groups), self.num_pids_per_batch, replace=False)",
         "generator.choice(len(self._groups), self.num_pids_per_batch, replace=True)"),
        ("short = len(images) < self.num_instances", "short = True"),
        ("np.random.default_rng([self.seed, self.epoch])", "np.random.default_rng([self.seed])"),
        ("        self.epoch += 1\n", ""),
        ("num_batches = max(sizes) // (batch_size // 2) + 1", "num_batches = max(sizes) // (batch_size // 2)"),
        ("yield from (index + copy * self._count for index in part)", "yield from (index + self._count - 1 for index in part)"),
    ),
    # -- resume
    *_of(
        "engine/checkpoint.py", "engine/test_checkpoint.py engine/test_resume.py",
        ("                part.load_state_dict(state[name])", "                state[name]"),
        ("return {**states, **dataclasses.asdict(position)}",
         "return {**states, **dataclasses.asdict(Position(position.epoch))}"),
    ),
    *_of(
        "engine/base.py", "engine/test_resume.py engine/test_accumulation.py",
        ("seed_everything(self.options.seed, self.epoch)", "seed_everything(self.options.seed)"),
        ("self.train_loader.sampler.set_epoch(self.epoch)", "pass"),
        ('"ema": self.ema.module if self.ema else None', '"ema": None'),
        ("torch._foreach_div_([p.grad for p in self._trained_weights() if p.grad is not None], self._waiting)", "pass"),
    ),
    *_of(
        "engine/resuming.py", "engine/test_resume.py",
        ("else self.epoch + 1\n", "else self.epoch\n"),
        ("        self._history = history\n", ""),
        ('restore_random_state(position["random"])', "pass"),
        ('self._walk.go_on(position["walk"])', "pass"),
    ),
    *_of("data/walk.py", "data_sets/test_walk.py", ("restore_random_state(now)", "pass")),
    *_of(
        "run/folder.py", "run/test_damaged_folder.py",
        ("if known and path.is_file() and file_digest(path) not in known:", "if False:"),
        ("                continue\n", "                raise\n"),
    ),
    *_of(
        "files.py", "test_files.py",
        ("return not any(record.CRC for record in archive.infolist()) or archive.testzip() is None", "return True"),
    ),
    *_of("engine/ema.py", "engine/test_ema.py", ("average, live, 1 - self.decay)", "average, live, self.decay)")),
    # -- several processes
    *_of(
        "distributed.py", "distributed/test_equal_numbers.py",
        ("return grad.narrow(0, ctx.first, ctx.length) * processes(), None",
         "return grad.narrow(0, ctx.first, ctx.length), None"),
        ("ctx.first, ctx.length = sum(lengths[:own]), lengths[own]", "ctx.first, ctx.length = 0, lengths[own]"),
        ("return torch.cat([part.flatten(0, 1) for part in ranks.split(list(parts), dim=1)])", "return ranks.flatten(0, 1)"),
        ("        return all_sum(grad)", "        return grad"),
    ),
    *_of(
        "losses/memory_shards.py", "distributed/test_equal_numbers.py",
        ("shrink = (peak - whole).exp()", "shrink = torch.ones_like(peak)"),
        ("found.entries.view(shape) + self.first, kept", "found.entries.view(shape), kept"),
    ),
    *_of(
        "layers/sync_norm.py", "distributed/test_equal_numbers.py",
        ("    sums = all_sum(torch.stack(rows))", "    sums = torch.stack(rows)"),
        ("value in ((bn.running_mean, mean), (bn.running_var, variance * (count / (count - 1)))):",
         "value in ((bn.running_mean, mean), (bn.running_var, variance)):"),
        ("whole_scale, whole_shift = all_sum(torch.stack((by_scale, by_shift)))",
         "whole_scale, whole_shift = by_scale, by_shift"),
    ),
    *_of(
        "data/share.py", "data_sets/test_share.py",
        ("return [number * part + place for number in range(parts) for place in range(first, first + own)]",
         "return list(range(parts * first, parts * (first + own)))"),
        ("if count == 1 or part % (count * together) == 0:", "if count == 1 or part % count == 0:"),
    ),
]

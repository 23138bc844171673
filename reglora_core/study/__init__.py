"""Studies: every method on the k-shot protocol, one fit after the other or many at once.

    sweep = run_study(read_study(Path("study.json")), data, out, SweepConfig(RayConfig(workers=2)))

    config = read_study(Path("study.json"))
    fits, skips = plan_fits(config, inventory)
    bench = Bench.of(config, inventory, weights, device)
    record = run_fit(bench, fits[0])

| module | |
|---|---|
| `config` | the study file |
| `plan` | which fits there are |
| `base` | the base network: pre-trained on the protocol's patients, or checked |
| `cases` | patients on the working grid |
| `fit` | one training, as FSEFT and ARENA have it |
| `score` | Dice of whole patients |
| `work` | one fit from plan to record |
| `records` | one JSON file per finished fit |
| `sweep` | a whole study; goes on from what is finished |
| `command`, `summary` | `reglora bench run` |
"""

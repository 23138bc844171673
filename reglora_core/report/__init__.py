"""The report of a study: tables, figures, paired tests and claims from the records of its fits.

    study = read_study_folder(Path("study"))
    write_report(study, Path("study/report"))

| module | |
|---|---|
| `fits` | one record, checked: which fit, and what came out |
| `folder` | all records of a study; which are missing, damaged, doubled or of another study |
| `labels` | how methods are called and ordered |
| `cohort` | the fits of one dataset and role: means and deviations, never over gaps in silence |
| `paired` | paired tests, Holm's correction, intervals over patients |
| `claims` | what the study must show: passed or missed |
| `published` | the papers' numbers |
| `table`, `tables` | the tables, as rows of texts with marks |
| `columns` | the same and more as CSV |
| `figures`, `rank_chart`, `size_chart`, `heat_map`, `curves` | the figures |
| `markdown`, `page` | the tables and figures on one page |
| `command` | `reglora bench report` |
"""

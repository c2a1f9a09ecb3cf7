"""What several tasks share about cohorts: split files, subgroups, records of one file, made patients, question forms."""

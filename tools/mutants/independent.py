"Written by somebody who did not write the tests: what a reviewer might try."
MUTANTS = []

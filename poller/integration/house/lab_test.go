package house

import "github.com/artifactofdevotion/devotion/poller/integration/internal/lab"

const (
	module       = lab.Module
	raceDetector = lab.Race
)

var repositoryRoot = lab.RepositoryRoot

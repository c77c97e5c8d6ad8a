package checkpoints

import (
	"testing"

	"github.com/artifactofdevotion/devotion/poller/integration/internal/lab"
)

func TestMain(m *testing.M) { lab.Main(m) }

const (
	waitLimit    = lab.WaitLimit
	raceDetector = lab.Race
)

var (
	eachDriver     = lab.EachDriver
	idColumn       = lab.IDColumn
	isMariaDB      = lab.IsMariaDB
	isPostgres     = lab.IsPostgres
	repositoryRoot = lab.RepositoryRoot
)

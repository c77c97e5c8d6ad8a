package mariadb

import (
	"testing"

	"github.com/artifactofdevotion/devotion/poller/integration/internal/lab"
)

func TestMain(m *testing.M) { lab.Main(m) }

var (
	eachDriver = lab.EachDriver
	isMariaDB  = lab.IsMariaDB
	isPostgres = lab.IsPostgres
	pollOnce   = lab.PollOnce
)

// Package integration tests the library against real databases.
package integration

import (
	"testing"

	"github.com/artifactofdevotion/devotion/poller/integration/dbtest"
)

func TestMain(m *testing.M) { dbtest.Main(m) }

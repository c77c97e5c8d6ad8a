// Package survey loads schemas that people use, and measures by which means their tables can be read.
// SURVEY.md says how, and has the figures.
package survey

import (
	gocontext "context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller/integration/internal/lab"
	"github.com/artifactofdevotion/devotion/source/sqlsource/builtin"
)

var (
	corpus = flag.String("survey", "testdata", "a directory with schemas, one file each in postgres, mariadb and sqlite")
	only   = flag.String("survey.table", "", "survey the tables alone whose names match this regular expression")
)

func TestMain(m *testing.M) { lab.Main(m) }

func context() gocontext.Context { return gocontext.Background() }

// TestSurvey requires of every schema what the documentation says about them.
func TestSurvey(t *testing.T) {
	var all []*schema
	for _, engine := range []string{"postgres", "mariadb", "sqlite"} {
		files, err := filepath.Glob(filepath.Join(*corpus, engine, "*.sql"))
		require.NoError(t, err)
		for _, file := range files {
			s := &schema{engine: engine, name: strings.TrimSuffix(filepath.Base(file), ".sql")}
			t.Run(engine+"/"+s.name, func(t *testing.T) {
				began := time.Now()
				s.survey(t, file)
				t.Logf("%-10s %-22s %v, %.1fs", engine, s.name, s.count(), time.Since(began).Seconds())
			})
			all = append(all, s)
		}
	}
	require.NotEmpty(t, all, "no schemas in %s", *corpus)
	fmt.Print(figures(all))
	judge(t, all)
}

// schema is one file, and the findings about its tables.
type schema struct {
	engine, name string
	problems     []string // statements of the file that failed
	results      []*result
}

func (s *schema) survey(t *testing.T, file string) {
	script, err := os.ReadFile(file)
	require.NoError(t, err)
	d := open(t, s.engine)
	s.problems = d.run(t, string(script), false)
	for i, p := range s.problems {
		if i < 5 {
			t.Logf("loading %s: %.200s", s.name, p)
		}
	}
	d.relax(t)
	dialect, err := builtin.Find(d.DB)
	require.NoError(t, err)
	relations, err := dialect.Relations(context(), d.DB)
	require.NoError(t, err)
	assert.NotEmpty(t, relations, s.name)
	for _, r := range relations {
		if regexp.MustCompile(*only).MatchString(r.Label()) {
			s.results = append(s.results, d.survey(t, d.describe(t, r)))
		}
	}
}

// relax takes foreign keys away, so that rows can be inserted table by table.
func (d database) relax(t *testing.T) {
	switch d.engine {
	case "mariadb":
		d.MustExec("SET GLOBAL foreign_key_checks = 0")
		d.SetMaxIdleConns(0) // a new connection takes the setting over
		d.SetMaxIdleConns(2)
	case "postgres":
		var drops []string
		require.NoError(t, d.Select(&drops, `SELECT format('ALTER TABLE %s DROP CONSTRAINT %I', conrelid::regclass, conname) FROM pg_constraint
			WHERE contype = 'f' AND conparentid = 0`))
		var refreshes []string // nobody can read a materialized view that was never filled
		require.NoError(t, d.Select(&refreshes, `SELECT format('REFRESH MATERIALIZED VIEW %I.%I', schemaname, matviewname) FROM pg_matviews WHERE NOT ispopulated`))
		for _, statement := range append(drops, refreshes...) {
			d.MustExec(statement)
		}
	}
}

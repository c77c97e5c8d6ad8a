package main_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/require"
)

// -once copies what no ceiling fits as a snapshot, once: a table with a key that no sequence draws, one without a key,
// a view, and the rows of a SELECT. What a snapshot cannot do is refused in words.
func TestOnceCopiesASnapshot(t *testing.T) {
	t.Parallel()
	eachDatabase(t, func(t *testing.T, db *sqlx.DB, args []string) {
		db.MustExec(`CREATE TABLE words (word varchar(20) NOT NULL PRIMARY KEY, n int)`)
		db.MustExec(`INSERT INTO words VALUES ('b', 2), ('a', 1), ('c', 3)`)
		db.MustExec(`CREATE TABLE nokey (n int)`)
		db.MustExec(`INSERT INTO nokey VALUES (1), (1), (NULL)`)
		db.MustExec(`CREATE VIEW totals AS SELECT sum(n) AS total FROM nokey`)
		dsn := args[:2]
		for _, c := range []struct {
			args []string
			want string
		}{
			{[]string{"-table", "words"}, `{"word":"a","n":1}` + "\n" + `{"word":"b","n":2}` + "\n" + `{"word":"c","n":3}` + "\n"},
			{[]string{"-table", "words", "-key", "word"}, `{"word":"a","n":1}` + "\n" + `{"word":"b","n":2}` + "\n" + `{"word":"c","n":3}` + "\n"},
			{[]string{"-table", "nokey", "-where", "t.n = 1"}, "{\"n\":1}\n{\"n\":1}\n"},
			{[]string{"-table", "totals"}, "{\"total\":2}\n"},
			{[]string{"-table", "x", "-select", "SELECT count(*) AS rows_there FROM words"}, "{\"rows_there\":3}\n"},
		} {
			dir := t.TempDir()
			copied := slices.Concat(dsn, c.args, []string{"-out", dir})
			p := succeeds(t, append(copied, "-once")...)
			got := strings.Split(content(t, dir, ".jsonl"), "\n")
			slices.Sort(got) // SQLite reads a text key in the order of the rows
			want := strings.Split(c.want, "\n")
			slices.Sort(want)
			require.Equal(t, want, got)
			require.Contains(t, p.stderr.String(), "one consistent moment")
			db.MustExec(`INSERT INTO nokey VALUES (NULL)`)

			succeeds(t, append(copied, "-once")...) // adds nothing
			require.Len(t, strings.Split(content(t, dir, ".jsonl"), "\n"), len(want))
			copied = append(copied, "-key", "n")
			for _, other := range [][]string{nil, {"-verify"}, {"-rewind", "first"}, {"-adopt"}} {
				p := run(t, nil, append(copied, other...)...)
				require.Equal(t, 1, p.code())
				require.Contains(t, p.stderr.String(), "the directory holds a snapshot")
			}
		}
		p := run(t, nil, append(dsn, "-table", "words", "-out", t.TempDir())...)
		require.Equal(t, 2, p.code())
		p = run(t, nil, append(dsn, "-table", "words", "-key", "word", "-once", "-start", "a", "-out", t.TempDir())...)
		require.Equal(t, 1, p.code(), "a snapshot has no start")
	})
}

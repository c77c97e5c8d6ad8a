package xminsource_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/artifactofdevotion/devotion/poller/integration/internal/lab"
	"github.com/artifactofdevotion/devotion/source"
	"github.com/artifactofdevotion/devotion/source/row"
	"github.com/artifactofdevotion/devotion/source/xminsource"
)

// hardKeys are keys that are hard to write, in addition to those of keys. The values are literals.
var hardKeys = map[string][]string{
	"text":                                {`''`, `';'`, `'%3B'`, `'1:2'`, `E'\n\\"{}'`, `'ä€😀'`, `' '`},
	"text, text":                          {`'a', ''`, `'', 'a'`, `'1:a', 'b'`, `'a;', 'b'`, `'a', ';b'`},
	"float8":                              {`'NaN'`, `'-Infinity'`, `1000000`, `1e-7`, `0.1`},
	"real":                                {`0.1`, `1e20`, `'Infinity'`},
	"timestamptz":                         {`'infinity'`, `'0044-03-15 12:00+00 BC'`, `'12026-01-01 00:00+00'`},
	"date":                                {`'-infinity'`, `'0044-03-15 BC'`},
	"numeric":                             {`'NaN'`, `0.10`, `1e30`, `-5`},
	"bytea":                               {`''`, `'\x3a3b00ff'`},
	"\"char\"":                            {`'a'`, `'b'`},
	"int4range":                           {`'[1,5)'`, `'empty'`},
	"int, bytea, uuid":                    {`1, '\x00', '00000000-0000-0000-0000-000000000001'`, `1, '\x', '00000000-0000-0000-0000-000000000002'`},
	"varchar(3)":                          {`'abc'`, `''`},
	"money":                               {`'$1.50'`},
	"of_float8, of_bytea, of_timestamptz": {`0.1, '\x00ff', '2026-01-01 12:00+02'`, `'NaN', '', '-infinity'`},
}

// Each type can be the key of a row that is deleted, and a key pass over keys that are all there finds nothing: otherwise it
// would look up each of them.
func TestKeysOfDeletes(t *testing.T) {
	lab.EachPostgresDriver(t, func(t *testing.T, db *sqlx.DB) {
		n := 0
		for _, typ := range []string{"float8", "bytea", "timestamptz"} {
			db.MustExec(`CREATE DOMAIN of_` + typ + ` AS ` + typ)
		}
		check := func(types string, inserts ...string) {
			table, columns, names := fmt.Sprintf("d_%d", n), "", []string{}
			n++
			for i, typ := range strings.Split(types, ", ") {
				names = append(names, fmt.Sprintf("Key %d", i))
				columns += fmt.Sprintf("\"Key %d\" %s, ", i, typ)
			}
			db.MustExec(fmt.Sprintf(`CREATE TABLE %s (%s note int, PRIMARY KEY ("%s"))`, table, columns, strings.Join(names, `", "`)))
			for _, insert := range inserts {
				db.MustExec(`INSERT INTO ` + table + insert)
			}
			s := withDeletes(t, db, t.TempDir(), table, names...)
			defer s.Close()
			loaded, at := keysOf(t, s, "", row.Upsert)
			require.NotEmpty(t, loaded)
			_, again := keysOf(t, s, at, 0)
			require.Equal(t, at, again, "the key pass over %s finds all keys", types)
			db.MustExec(`DELETE FROM ` + table)
			gone, _ := keysOf(t, s, at, row.Delete)
			slices.Sort(loaded)
			slices.Sort(gone)
			assert.Equal(t, loaded, gone, types)
		}
		for types, values := range keys {
			inserts := []string{` SELECT ` + strings.Join(values, ", ") + `, n FROM generate_series(1, 10) AS n`}
			if hard := hardKeys[types]; hard != nil {
				inserts = append(inserts, literals(hard))
			}
			check(types, inserts...)
		}
		for types, values := range hardKeys {
			if keys[types] == nil {
				check(types, literals(values))
			}
		}
	})
}

func literals(values []string) string { return ` VALUES (` + strings.Join(values, ", 0), (") + `, 0)` }

// keysOf polls until nothing more comes, and returns the keys of the changes, which are all of one kind.
func keysOf(t *testing.T, s *xminsource.Source, after source.Cursor, op row.Op) (all []string, to source.Cursor) {
	t.Helper()
	passes := 0
	lab.WaitFor(t, func() bool {
		b, err := s.Fetch(t.Context(), after, 1000)
		require.NoError(t, err)
		if b.To != after && strings.HasPrefix(b.Position, "looking for deletes: 0 of") {
			passes++
			require.Less(t, passes, 3, "each key pass misses keys")
		}
		for _, c := range b.Records {
			assert.Equal(t, op, c.Op)
			all = append(all, lab.RowJSON(c.Key))
		}
		to, after = b.To, b.To
		return !b.More && b.Held == nil
	})
	return all, to
}

package postgres

import (
	"fmt"
	"hash/crc32"
	"slices"
	"strings"

	"github.com/artifactofdevotion/devotion/source/sqlsource/ceiling"
)

// A recipe is a column that a table can be read by: the transaction that wrote a row, or the moment
// when it was written. Such columns are recognised, and not offered any more: SELECT * returns
// them, and COPY without a list of columns expects them.
type recipe struct {
	typ   string
	value string // what the column is set to, as pg_get_expr shows it
}

var (
	txRecipe    = recipe{"xid8", "pg_current_xact_id()"}
	stampRecipe = recipe{"timestamp with time zone", "clock_timestamp()"}
)

// byWord returns the means for a key that begins with a time, of which one takes the user's word.
func (p *table) byWord(t ceiling.Table) []ceiling.Remedy {
	list := otherMeans(t)
	if p.tree[0].keyType == stampRecipe.typ {
		list = append(list, ceiling.Remedy{Words: fmt.Sprintf("if a trigger sets %q to clock_timestamp() at each INSERT and UPDATE, set Ceiling to stamp, which takes your word for that", t.Key[0].Name)})
	}
	return list
}

// body is the text of a recipe's function. A trigger whose function has exactly this text is
// known to set the column.
func (c recipe) body(column string) string {
	return fmt.Sprintf(" BEGIN NEW.%s := pg_catalog.%s; RETURN NEW; END ", quote(column), c.value)
}

// otherMeans returns the means that need nothing of the key.
func otherMeans(t ceiling.Table) []ceiling.Remedy {
	scan := ceiling.Remedy{Words: "scan the table for new row versions with package xminsource, which needs SELECT only, and is cheaper than that; with Deletes it delivers deletes, too"}
	return append(ceiling.OtherMeans(t), scan)
}

const reindex = "REINDEX INDEX CONCURRENTLY %s;"

// createIndex returns the statement for an index of a table. IF NOT EXISTS would keep an invalid
// one, which CREATE INDEX CONCURRENTLY leaves when it fails.
func (p *table) createIndex(m member, key []ceiling.Column) string {
	k := ceiling.Table{Key: key}
	sum := crc32.ChecksumIEEE([]byte(m.relation + "\x00" + strings.Join(k.Names(), "\x00"))) // a_b of c is not b_c of a
	name, concurrently := objectName(m, fmt.Sprintf("%s_%08x", strings.Join(k.Names(), "_"), sum)), "CONCURRENTLY "
	if m.kind == "p" {
		concurrently = ""
	} else if i := slices.IndexFunc(p.indexes, func(i index) bool { return !i.valid && i.table == m.oid && i.relation == name }); i >= 0 {
		return fmt.Sprintf(reindex, p.indexes[i].name)
	}
	return fmt.Sprintf("CREATE INDEX %sIF NOT EXISTS %s ON %s (%s);", concurrently, quote(name), m.name, k.Columns())
}

// objectName names an index by the table and by its purpose, so that it is not taken for another
// one. Names that would be cut off have numbers instead.
func objectName(m member, purpose string) string {
	name := fmt.Sprintf("zz_devotion_%s_%s", m.relation, strings.TrimLeft(purpose, "_"))
	if len(name) > 63 {
		name = fmt.Sprintf("zz_devotion_%d_%08x", m.oid, crc32.ChecksumIEEE([]byte(purpose)))
	}
	return name
}

// unqualified is an expression without the schema that pg_get_expr may show.
func unqualified(expr string) string { return strings.TrimPrefix(expr, "pg_catalog.") }

func quote(name string) string { return Dialect{}.Quote(name) }

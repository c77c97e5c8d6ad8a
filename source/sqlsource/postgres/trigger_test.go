package postgres

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestSetsTo(t *testing.T) {
	t.Parallel()
	for source, want := range map[string]setting{
		`begin new.at := clock_timestamp(); return new; end`:                                                             sets,
		`BEGIN NEW."at" = pg_catalog.clock_timestamp() ; RETURN NEW; END`:                                                sets,
		`begin if tg_op = 'DELETE' then return old; end if; new.at := clock_timestamp(); return new; end`:                sets,
		`begin if new.v < 0 then raise exception 'no'; end if; new.at := clock_timestamp(); return new; end`:             sets,
		`begin for i in 1..3 loop new.v := i; end loop; new.at := clock_timestamp(); return new; end`:                    sets,
		`begin new.at := now(); new.at := clock_timestamp(); if new.v = 1 then new.v := 2; end if; return new; end`:      sets,
		`begin if new.at is null then new.at := clock_timestamp(); end if; new.at := clock_timestamp(); return new; end`: sets,
		`begin return new; end`:                                                                                    leaves,
		`begin new.at2 := clock_timestamp(); return new; end`:                                                      leaves,
		`begin -- new.at := clock_timestamp();` + "\nreturn new; end":                                              leaves,
		`begin /* new.at := clock_timestamp(); */ return new; end`:                                                 leaves,
		`begin raise notice 'new.at := clock_timestamp();'; return new; end`:                                       leaves,
		`begin if tg_op = 'UPDATE' then new.at := clock_timestamp(); end if; return new; end`:                      setsOnce,
		`begin if new.at is null then new.at := clock_timestamp(); else new.v := 1; end if; return new; end`:       setsOnce,
		`begin if new.v = 1 then return new; end if; new.at := clock_timestamp(); return new; end`:                 setsOnce,
		`begin begin new.v := 1 / 0; exception when others then new.at := clock_timestamp(); end; return new; end`: setsOnce,
		`begin while new.v > 0 loop new.at := clock_timestamp(); end loop; return new; end`:                        setsOnce,
		`begin new.at := now(); return new; end`:                                                                   setsOther,
		`begin new.at := clock_timestamp() - interval '1 hour'; return new; end`:                                   setsOther,
		`begin new.at := clock_timestamp(); new.at := coalesce(old.at, now()); return new; end`:                    setsOther,
		`begin new.at := clock_timestamp(); new := old; return new; end`:                                           setsOther,
		`begin new.at := clock_timestamp(); select * into new from other; return new; end`:                         setsOther,
		`begin select max(at) into new.at from other; return new; end`:                                             setsOther,
		`begin new.at := now(); if new.v = 1 then new.at := clock_timestamp(); end if; return new; end`:            setsOther,
	} {
		assert.Equal(t, want, setsTo(source, "at", "clock_timestamp()"), source)
	}
}

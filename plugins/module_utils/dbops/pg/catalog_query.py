# SPDX-License-Identifier: GPL-3.0-or-later
"""The catalogs as rows of kind, name and definition: the queries behind a fingerprint. For PostgreSQL 14 to 18.

What a relation is made of stands here once; the whole schema and a few tables differ in which relations they ask about.
"""
# ruff: noqa: E501  # a column of the query is easier to read on one line

from __future__ import annotations

_SCOPE = """
with
ours as materialized (
    select n.oid, n.nspname, quote_ident(n.nspname) as schema, n.nspowner, n.nspacl
    from pg_namespace n
    where n.nspname !~ '^pg_' and n.nspname <> 'information_schema' and n.nspname <> all(%(schemas)s)
),
member as materialized (
    select classid, objid from pg_depend where deptype = 'e' and refclassid = 'pg_extension'::regclass
),
"""
_ALL_RELATIONS = """
rel as materialized (
    select c.*, n.schema || '.' || quote_ident(c.relname) as name
    from pg_class c join ours n on n.oid = c.relnamespace
    where c.relkind in ('r', 'p', 'v', 'm', 'S', 'f', 'c', 'i', 'I')
        and not exists (select from member m where m.classid = 'pg_class'::regclass and m.objid = c.oid)
        and not (c.relkind in ('r', 'i') and exists (
            select from pg_class s where s.relname = %(table)s
                and s.relnamespace = (select oid from ours where nspname = %(schema)s)
                and s.oid in (c.oid, (select indrelid from pg_index where indexrelid = c.oid))
        ))
),
"""
# Tables that are named by their oids, with their partitions, and the indexes of all of them.
_THESE_RELATIONS = """
these as materialized (
    select unnest(%(tables)s::oid[]) as oid union select inhrelid from pg_inherits where inhparent = any(%(tables)s::oid[])
),
rel as materialized (
    select c.*, n.schema || '.' || quote_ident(c.relname) as name
    from pg_class c join ours n on n.oid = c.relnamespace
    where c.oid in (select oid from these) or c.oid in (select indexrelid from pg_index join these on indrelid = oid)
),
"""
_TABLES = """
tab as materialized (select * from rel where relkind in ('r', 'p', 'v', 'm', 'f', 'c'))
"""
_OTHER_OBJECTS = """
,
func as materialized (
    select p.*, n.schema || '.' || quote_ident(p.proname) || '(' || pg_get_function_identity_arguments(p.oid) || ')' as name
    from pg_proc p join ours n on n.oid = p.pronamespace
    where not exists (select from member m where m.classid = 'pg_proc'::regclass and m.objid = p.oid)
),
typ as materialized (
    select t.*, n.schema || '.' || quote_ident(t.typname) as name
    from pg_type t join ours n on n.oid = t.typnamespace
    where t.typtype in ('e', 'd', 'r')
        and not exists (select from member m where m.classid = 'pg_type'::regclass and m.objid = t.oid)
)
"""
_OF_RELATIONS = """
select case relkind when 'v' then 'view' when 'm' then 'materialized view' when 'S' then 'sequence' when 'f' then 'foreign table'
        when 'c' then 'composite type' else 'table' end as kind,
    name,
    concat_ws(' ', 'kind', relkind, 'persistence', relpersistence, 'options', reloptions::text,
        'tablespace', (select spcname from pg_tablespace where oid = reltablespace),
        'access method', (select amname from pg_am where oid = relam),
        case when relrowsecurity then 'row security' end, case when relforcerowsecurity then 'forced' end,
        case when relreplident <> 'd' and relkind in ('r', 'p') then 'replica identity ' || relreplident::text end,
        case when relkind = 'm' and not relispopulated then 'not populated' end,
        'partition by ' || case when relkind = 'p' then pg_get_partkeydef(oid) end,
        case when relispartition then 'partition ' || pg_get_expr(relpartbound, oid) end,
        'of ' || (select string_agg(i.inhparent::regclass::text, ', ' order by i.inhseqno) from pg_inherits i where i.inhrelid = rel.oid),
        case when relkind in ('v', 'm') then 'as ' || pg_get_viewdef(oid) end,
        (select format('%%s from %%s to %%s start %%s step %%s cache %%s%%s owned by %%s', s.seqtypid::regtype, s.seqmin, s.seqmax,
            s.seqstart, s.seqincrement, s.seqcache, case when s.seqcycle then ' cycle' else '' end,
            (select d.refobjid::regclass || '.' || a.attname from pg_depend d join pg_attribute a
                on a.attrelid = d.refobjid and a.attnum = d.refobjsubid
             where d.classid = 'pg_class'::regclass and d.objid = s.seqrelid and d.deptype in ('a', 'i') and d.refobjsubid > 0))
         from pg_sequence s where s.seqrelid = rel.oid)) as definition
from rel where relkind not in ('i', 'I')
union all
select 'owner', name, pg_get_userbyid(relowner) from rel where relkind not in ('i', 'I')
union all
select 'privileges', name, (select string_agg(a::text, ' ' order by a::text) from unnest(relacl) a) from rel where relacl is not null
union all
select 'column', t.name || '.' || quote_ident(a.attname),
    concat_ws(' ', format_type(a.atttypid, a.atttypmod),
        (select 'collate ' || collname from pg_collation where oid = a.attcollation and a.attcollation <> 100),
        case when a.attnotnull then 'not null' end,
        case a.attgenerated when '' then 'default ' else 'generated ' || a.attgenerated::text || ' ' end || pg_get_expr(d.adbin, d.adrelid),
        case when a.attidentity <> '' then 'identity ' || a.attidentity::text end,
        'storage ' || a.attstorage::text, 'compression ' || nullif(a.attcompression::text, ''),
        'statistics ' || nullif(a.attstattarget, -1),
        -- without pg_attver: since its releases of November 2026 the server itself notes there when a column was last changed
        'options ' || (select string_agg(o, ', ' order by o) from unnest(a.attoptions) o where left(o, 10) <> 'pg_attver='), a.attfdwoptions::text)
from tab t join pg_attribute a on a.attrelid = t.oid and a.attnum > 0 and not a.attisdropped
    left join pg_attrdef d on d.adrelid = t.oid and d.adnum = a.attnum
union all
select 'privileges', t.name || '.' || quote_ident(a.attname), (select string_agg(x::text, ' ' order by x::text) from unnest(a.attacl) x)
from tab t join pg_attribute a on a.attrelid = t.oid where a.attacl is not null and not a.attisdropped
union all
select 'column order', t.name, string_agg(a.attname, ', ' order by a.attnum)
from tab t join pg_attribute a on a.attrelid = t.oid and a.attnum > 0 and not a.attisdropped group by t.name
union all
select 'constraint', t.name || '.' || quote_ident(c.conname),
    concat_ws(' ', case when c.contype <> 'n' then pg_get_constraintdef(c.oid) else 'NOT NULL ' || n.attname end, -- 300 calls saved
        case when c.contype = 'n' and c.connoinherit then 'NO INHERIT' end, case when not c.convalidated then 'NOT VALIDATED' end,
        case when c.condeferrable then 'deferrable' end, case when c.condeferred then 'deferred' end)
from tab t join pg_constraint c on c.conrelid = t.oid
    left join pg_attribute n on c.contype = 'n' and n.attrelid = t.oid and n.attnum = c.conkey[1]
where c.contype <> 't'
union all
select 'index', i.name,
    concat_ws(' ', pg_get_indexdef(i.oid), case when not x.indisvalid then 'INVALID' end, case when not x.indisready then 'NOT READY' end,
        case when x.indisclustered then 'clustered' end, case when x.indisreplident then 'replica identity' end,
        'tablespace ' || (select spcname from pg_tablespace where oid = i.reltablespace), i.reloptions::text)
from rel i join pg_index x on x.indexrelid = i.oid
union all
select 'trigger', t.name || '.' || quote_ident(g.tgname), concat_ws(' ', pg_get_triggerdef(g.oid), 'enabled ' || g.tgenabled::text)
from tab t join pg_trigger g on g.tgrelid = t.oid where not g.tgisinternal
union all
select 'policy', t.name || '.' || quote_ident(p.polname),
    concat_ws(' ', p.polcmd, case when p.polpermissive then 'permissive' else 'restrictive' end,
        (select string_agg(coalesce(r::regrole::text, 'public'), ',' order by r::regrole::text) from unnest(p.polroles) r),
        pg_get_expr(p.polqual, p.polrelid), 'check ' || pg_get_expr(p.polwithcheck, p.polrelid))
from tab t join pg_policy p on p.polrelid = t.oid
union all
select 'rule', t.name || '.' || quote_ident(r.rulename), pg_get_ruledef(r.oid) || ' enabled ' || r.ev_enabled::text
from tab t join pg_rewrite r on r.ev_class = t.oid where r.rulename <> '_RETURN'
union all
select 'comment', 'relation ' || r.name, d.description
from rel r join pg_description d on d.objoid = r.oid and d.classoid = 'pg_class'::regclass and d.objsubid = 0
union all
select 'comment', 'column ' || t.name || '.' || a.attname, d.description
from tab t join pg_description d on d.objoid = t.oid and d.classoid = 'pg_class'::regclass and d.objsubid > 0
    join pg_attribute a on a.attrelid = t.oid and a.attnum = d.objsubid
union all
select 'comment', 'constraint ' || t.name || '.' || x.conname, d.description
from tab t join pg_constraint x on x.conrelid = t.oid
    join pg_description d on d.objoid = x.oid and d.classoid = 'pg_constraint'::regclass
union all
select 'comment', 'trigger ' || t.name || '.' || g.tgname, d.description
from tab t join pg_trigger g on g.tgrelid = t.oid and not g.tgisinternal
    join pg_description d on d.objoid = g.oid and d.classoid = 'pg_trigger'::regclass
"""
_OF_OTHERS = """
union all
select 'schema', schema, 'schema' from ours
union all
select 'owner', 'schema ' || schema, pg_get_userbyid(nspowner) from ours
union all
select 'privileges', 'schema ' || schema, (select string_agg(a::text, ' ' order by a::text) from unnest(nspacl) a)
from ours where nspacl is not null
union all
select 'statistics', n.schema || '.' || quote_ident(s.stxname), pg_get_statisticsobjdef(s.oid)
from pg_statistic_ext s join ours n on n.oid = s.stxnamespace
union all
select 'function', name, case when prokind = 'a' then 'aggregate ' || pg_get_function_result(oid) else pg_get_functiondef(oid) end
from func
union all
select 'owner', 'function ' || name, pg_get_userbyid(proowner) from func
union all
select 'privileges', 'function ' || name, (select string_agg(a::text, ' ' order by a::text) from unnest(proacl) a)
from func where proacl is not null
union all
select 'type', name,
    case typtype
        when 'e' then 'enum ' || coalesce((select string_agg(quote_literal(e.enumlabel), ', ' order by e.enumsortorder)
                                           from pg_enum e where e.enumtypid = typ.oid), '')
        when 'd' then concat_ws(' ', 'domain', format_type(typbasetype, typtypmod), case when typnotnull then 'not null' end,
            'default ' || typdefault,
            (select string_agg(c.conname || ' ' || pg_get_constraintdef(c.oid), ' ' order by c.conname)
             from pg_constraint c where c.contypid = typ.oid and c.contype = 'c'))
        else 'range ' || (select rngsubtype::regtype::text from pg_range where rngtypid = typ.oid) end
from typ
union all
select 'owner', 'type ' || name, pg_get_userbyid(typowner) from typ
union all
select 'extension', quote_ident(e.extname), e.extversion || ' in ' || n.nspname
from pg_extension e join pg_namespace n on n.oid = e.extnamespace
union all
select 'event trigger', quote_ident(evtname), concat_ws(' ', evtevent, evtfoid::regproc, evtenabled, evttags::text) from pg_event_trigger
union all
select 'publication', quote_ident(p.pubname), concat_ws(' ', p.puballtables, p.pubinsert, p.pubupdate, p.pubdelete, p.pubtruncate,
    (select string_agg(r.prrelid::regclass::text, ', ' order by r.prrelid::regclass::text) from pg_publication_rel r where r.prpubid = p.oid))
from pg_publication p
union all
select 'foreign server', quote_ident(srvname), concat_ws(' ', srvtype, srvversion, srvoptions::text) from pg_foreign_server
union all
select 'foreign data wrapper', quote_ident(fdwname), concat_ws(' ', fdwhandler::regproc, fdwoptions::text) from pg_foreign_data_wrapper
union all
select 'language', quote_ident(lanname), 'language' from pg_language where oid >= 16384
union all
select 'collation', n.schema || '.' || quote_ident(c.collname), concat_ws(' ', c.collprovider, c.collcollate, c.collctype)
from pg_collation c join ours n on n.oid = c.collnamespace
union all
select 'operator', n.schema || '.' || o.oprname || '(' || o.oprleft::regtype || ', ' || o.oprright::regtype || ')', o.oprcode::text
from pg_operator o join ours n on n.oid = o.oprnamespace
where not exists (select from member m where m.classid = 'pg_operator'::regclass and m.objid = o.oid)
union all
select 'cast', castsource::regtype || ' as ' || casttarget::regtype, concat_ws(' ', castfunc::regproc, castcontext, castmethod)
from pg_cast where oid >= 16384 and not exists (select from member m where m.classid = 'pg_cast'::regclass and m.objid = pg_cast.oid)
union all
select 'default privileges',
    concat_ws(' ', pg_get_userbyid(d.defaclrole), (select schema from ours where oid = d.defaclnamespace), d.defaclobjtype),
    (select string_agg(a::text, ' ' order by a::text) from unnest(d.defaclacl) a)
from pg_default_acl d
union all
select 'database setting', coalesce(quote_ident(r.rolname), 'database'), s.setconfig::text
from pg_db_role_setting s left join pg_roles r on r.oid = s.setrole
where s.setdatabase = (select oid from pg_database where datname = current_database())
union all
select 'comment', 'schema ' || n.schema, d.description
from ours n join pg_description d on d.objoid = n.oid and d.classoid = 'pg_namespace'::regclass and n.nspname <> 'public'
union all
select 'comment', 'function ' || f.name, d.description
from func f join pg_description d on d.objoid = f.oid and d.classoid = 'pg_proc'::regclass
union all
select 'comment', 'type ' || t.name, d.description
from typ t join pg_description d on d.objoid = t.oid and d.classoid = 'pg_type'::regclass
"""

# Parameters: schemas, a list whose objects are left out; schema and table of one table that is left out.
WHOLE_SCHEMA = _SCOPE + _ALL_RELATIONS + _TABLES + _OTHER_OBJECTS + _OF_RELATIONS + _OF_OTHERS
# Parameters: schemas, as above; tables, a list of oids.
THESE_TABLES = _SCOPE + _THESE_RELATIONS + _TABLES + _OF_RELATIONS

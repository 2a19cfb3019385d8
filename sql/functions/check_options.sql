-- Refuses options that the publisher would send and the worker could not handle: an option of a wrong type ends the message or
-- the whole worker, and a header under one of Celery's names replaces the message's own, its task included.
--   known options    by type, in one expression: a query would take as long as the rest of enqueue. Celery treats null as absent
--   headers          none of Celery's or pgreact's own
--   other options    are properties of the message, such as MessageGroupId of SQS: they go to apply_async unchanged, unless
--                    they are AMQP properties of a wrong type, or arguments that the publisher itself sets
create or replace function pgreact.check_options(owner text, options jsonb) returns void
    language plpgsql
    set search_path = pg_catalog, pg_temp
as $$
declare
    known constant text[] := '{queue,exchange,exchange_type,routing_key,route_name,serializer,compression,shadow,argsrepr,kwargsrepr,
        reply_to,root_id,parent_id,group_id,ignore_result,mandatory,immutable,headers,time_limit,
        soft_time_limit,timeout,priority,group_index,replaced_task_nesting,delivery_mode,expires,link,
        link_error,chain,chord,stamped_headers}';
    fault text := case
        when jsonb_typeof(options -> 'queue') not in ('string', 'null')
            or length(options ->> 'queue') not between 1 and 255 or options ->> 'queue' ~ '[[:cntrl:]]' then 'queue'
        when jsonb_typeof(options -> 'exchange') not in ('string', 'null') then 'exchange'
        when jsonb_typeof(options -> 'exchange_type') not in ('string', 'null') then 'exchange_type'
        when jsonb_typeof(options -> 'routing_key') not in ('string', 'null') then 'routing_key'
        when jsonb_typeof(options -> 'route_name') not in ('string', 'null') then 'route_name'
        when jsonb_typeof(options -> 'serializer') not in ('string', 'null') then 'serializer'
        when jsonb_typeof(options -> 'compression') not in ('string', 'null') then 'compression'
        when jsonb_typeof(options -> 'shadow') not in ('string', 'null') then 'shadow'
        when jsonb_typeof(options -> 'argsrepr') not in ('string', 'null') then 'argsrepr'
        when jsonb_typeof(options -> 'kwargsrepr') not in ('string', 'null') then 'kwargsrepr'
        when jsonb_typeof(options -> 'reply_to') not in ('string', 'null') then 'reply_to'
        when jsonb_typeof(options -> 'root_id') not in ('string', 'null') then 'root_id'
        when jsonb_typeof(options -> 'parent_id') not in ('string', 'null') then 'parent_id'
        when jsonb_typeof(options -> 'group_id') not in ('string', 'null') then 'group_id'
        when jsonb_typeof(options -> 'ignore_result') not in ('boolean', 'null') then 'ignore_result'
        when jsonb_typeof(options -> 'mandatory') not in ('boolean', 'null') then 'mandatory'
        when jsonb_typeof(options -> 'immutable') not in ('boolean', 'null') then 'immutable'
        when jsonb_typeof(options -> 'headers') not in ('object', 'null') then 'headers'
        when not options -> 'time_limit' @? 'strict $ ? (@ == null || @ >= 0 && @ <= 1000000000)' then 'time_limit'
        when not options -> 'soft_time_limit' @? 'strict $ ? (@ == null || @ >= 0 && @ <= 1000000000)' then 'soft_time_limit'
        when not options -> 'timeout' @? 'strict $ ? (@ == null || @ >= 0 && @ <= 1000000000)' then 'timeout'
        when not options -> 'priority' @? 'strict $ ? (@ == null || @ >= 0 && @ <= 255 && @ == @.floor())' then 'priority'
        when not options -> 'group_index' @? 'strict $ ? (@ == null || @ >= 0 && @ <= 2147483647 && @ == @.floor())' then 'group_index'
        when not options -> 'replaced_task_nesting' @? 'strict $ ? (@ == null || @ >= 0 && @ <= 2147483647 && @ == @.floor())' then 'replaced_task_nesting'
        when options -> 'delivery_mode' not in ('1', '2', '"transient"', '"persistent"', 'null') then 'delivery_mode'
        when case jsonb_typeof(options -> 'expires')
            when 'string' then options ->> 'expires' !~ '^[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}(:[0-9]{2}([.][0-9]{1,6})?)?(Z|[+-][0-9]{2}:[0-9]{2})?$'
                or (options ->> 'expires')::timestamptz is null  -- the cast refuses an impossible time
            else not options -> 'expires' @? 'strict $ ? (@ == null || @ >= 0 && @ <= 1000000000)'
        end then 'expires'
        when options ? 'headers' and options -> 'headers' @? '$.keyvalue() ? (@.key starts with "_" || @.key starts with "pgreact_")'
            -- names of Celery's message protocol and of task.request; a test compares them with the installed Celery
            or options -> 'headers' ?| '{lang,task,id,shadow,eta,expires,group,group_index,retries,timelimit,root_id,parent_id,
                argsrepr,kwargsrepr,origin,ignore_result,replaced_task_nesting,stamped_headers,stamps,compression,args,kwargs,
                callbacks,errbacks,chain,chord,children,called_directly,correlation_id,delivery_info,headers,hostname,is_eager,
                logfile,loglevel,properties,reply_to,taskset,time_limit,soft_time_limit,utc,as_execution_options,clear,get,update}'
            then 'header'
        when options ?| '{link,link_error,chain,chord,stamped_headers}' then pgreact.check_calls(options, known)
    end;
    others jsonb := options - known;
begin
    if fault is null and others <> '{}' then
        select o.key into fault
        from jsonb_each(others) o
        where length(o.key) not between 1 and 128
            -- properties of AMQP
            or o.key in ('correlation_id', 'message_id', 'type', 'app_id', 'user_id', 'cluster_id')
                and jsonb_typeof(o.value) not in ('string', 'null')
            or o.key = 'expiration' and not o.value @? 'strict $ ? (@ == null || @ >= 0 && @ <= 1000000000)'
            or o.key = 'timestamp' and not o.value @? 'strict $ ? (@ == null || @ >= 0 && @ <= 1e18 && @ == @.floor())'
            -- arguments that the publisher, Celery or kombu set; a test compares them with the installed ones
            or o.key = any ('{countdown,eta,task_id,retry,retry_policy,name,args,kwargs,producer,publisher,connection,router,
                result_cls,add_to_parent,retries,task_type,declare,confirm_timeout,event_dispatcher,immediate,content_type,
                content_encoding,body,message,callbacks,errbacks,create_sent_event,origin,now,timezone,delivery_info,
                delivery_tag,body_encoding,self}'::text[])
        limit 1;
        if length(fault) not between 1 and 128 then
            raise exception '%: the name of an option has % characters, not 1 to 128', owner, length(fault)
                using errcode = 'invalid_parameter_value', hint = 'It begins with "' || left(fault, 40) || '".';
        elsif fault not in ('correlation_id', 'message_id', 'type', 'app_id', 'user_id', 'cluster_id', 'expiration', 'timestamp') then
            raise exception '%: no option "%"', owner, fault
                using errcode = 'invalid_parameter_value',
                    hint = case
                        when fault in ('countdown', 'eta') then
                            case when owner like 'route %' then 'Set countdown of the route.' else 'Set run_at.' end
                        when fault = 'task_id' then 'It is no option: pgreact.enqueue has an argument task_id.'
                        when fault like 'retry%' then 'Set max_attempts and backoff.'
                        else 'The publisher of the message sets it.'
                    end;
        end if;
    end if;
    if fault = 'header' then
        raise exception '%: a header has a name reserved by Celery or pgreact, in %', owner, left(options ->> 'headers', 200)
            using errcode = 'invalid_parameter_value',
                hint = 'Rename it; names that begin with "_" or "pgreact_" are reserved, too. '
                    'For some there is an option, like time_limit.';
    elsif fault is not null then
        raise exception '%: option "%" is %, not %', owner, fault, left((options -> fault)::text, 60),
            case
                when fault in ('time_limit', 'soft_time_limit', 'timeout', 'expiration') then 'a number of seconds'
                when fault = 'expires' then 'a number of seconds, or a time like "2026-03-29T09:00:00+02:00"'
                when fault = 'queue' then 'a text of 1 to 255 characters without control characters'
                when fault = 'priority' then 'a whole number from 0 to 255'
                when fault in ('group_index', 'replaced_task_nesting', 'timestamp') then 'a whole number from 0 on'
                when fault in ('ignore_result', 'mandatory', 'immutable') then 'true or false'
                when fault = 'delivery_mode' then '1, 2, "transient" or "persistent"'
                when fault = 'headers' then 'an object'
                when fault = 'stamped_headers' then 'a list of names of further options'
                when fault = 'chord' then 'a signature'
                when fault = 'chain' then 'a list of signatures'
                when fault in ('link', 'link_error') then 'a signature or a list of them'
                else 'a text'
            end
            using errcode = 'invalid_parameter_value';
    end if;
end
$$;
comment on function pgreact.check_options(text, jsonb) is 'refuses options of apply_async that a worker could not handle';
revoke all on function pgreact.check_options(text, jsonb) from public;
